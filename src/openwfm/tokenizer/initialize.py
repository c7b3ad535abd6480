"""Initial weights that already transmit: the best linear coder of pink noise, layer by layer.

With torch's defaults a small tokenizer predicts the mean grey for its first hundred steps, and then
spends thousands on finding out which wavelet bands matter. Natural video is close to noise whose
amplitude falls as one over frequency, and for that the answer is known in closed form. So the
residual branches start at zero, and the linear chain that remains is solved for:

- on the way down, every convolution that narrows or pools is the principal components of what it
  sees (taking the average-pool branch beside it into account);
- on the way up, every convolution is the ridge regression of the encoder's activations at the same
  grid, at last of the wavelet bands, on what the layers below really deliver;
- features come with both signs where there is room, since silu(x) - silu(-x) = x lets the linear
  chain pass the activation functions unharmed;
- the last channel is a constant several times as strong as the others together, so that the
  normalisation, which divides by the strength of a frame, leaves bright and dark frames apart.

Where a decoder visits grids that its encoder does not (more compression in space than in time),
its upsampling starts as nearest neighbour. Nothing but synthetic noise of a fixed seed is looked
at, and it takes a second.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.nn.causal import (
    PointwiseConv,
    SpatialConv,
    TemporalConv,
)
from openwfm.nn.direct import frames_first, frames_last
from openwfm.randomness import torch_generator
from openwfm.tokenizer.autoencoder import VideoTokenizer
from openwfm.tokenizer.blocks import Attention, Level, ResidualBlock
from openwfm.tokenizer.resampling import Downsample, Resample, Upsample

NUM_CLIPS = 24
CHROMA = 0.4  # amplitude of colour differences beside that of brightness
TIME_SCALE = 4.0  # how much faster amplitudes fall along time than along space
CONSTANT = 3.0  # root of the constant's share in a frame's strength, relative to all features
RIDGE = 1e-4
# Encoder activations by their grid (frames, rows, columns): what the decoder aims at.
Aims = dict[tuple[int, ...], Tensor]


@torch.no_grad()
def initialize(tokenizer: VideoTokenizer) -> None:
    """Overwrite all weights, drawing from torch's global generator."""
    for module in tokenizer.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        if isinstance(module, TemporalConv):
            _pass_on(module.weight)
    for module in tokenizer.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.last.weight)
        elif isinstance(module, Attention):
            nn.init.zeros_(module.output.weight)
        elif isinstance(module, Resample):
            for branch in (module.space, module.time):
                if branch is not None:
                    nn.init.zeros_(branch.weight)
            if isinstance(module.mix, PointwiseConv):
                _pass_on(module.mix.weight)
            elif module.space is not None:
                nn.init.eye_(module.space.weight[:, :, 0, 1, 1])
    nn.init.orthogonal_(tokenizer.to_latents.weight.flatten(1))
    config = tokenizer.config
    clips = pink_clips(
        NUM_CLIPS, 1 + 2 * config.temporal_compression, max(32, 2 * config.spatial_compression)
    )
    if config.in_channels != clips.shape[1]:
        clips = clips[:, :1].repeat(1, config.in_channels, 1, 1, 1)
    bands = tokenizer.bands(clips)
    features, aims = _fit_encoder(tokenizer, bands)
    _fit_decoder(tokenizer, features, aims, bands)


def pink_clips(count: int, num_frames: int, side: int) -> Float[Tensor, "b 3 t h w"]:
    """Noise whose amplitude is one over frequency, slow in time, of standard deviation 0.5."""
    generator = torch_generator(0, "tokenizer/pink clips")
    # Cut from a clip twice as long, since the Fourier transform closes time to a circle.
    frames, length = torch.fft.fftfreq(2 * num_frames), torch.fft.fftfreq(2 * side)
    time = (TIME_SCALE * frames).square()[:, None, None]
    space = length.square()[:, None] + length.square()[None]
    amplitude = (time + space + 1 / (2 * side) ** 2).pow(-0.75)
    noise = torch.randn(count, 3, *amplitude.shape, generator=generator)
    shaped = torch.fft.ifftn(torch.fft.fftn(noise, dim=(2, 3, 4)) * amplitude, dim=(2, 3, 4)).real
    luma, chroma = shaped[:, :1], shaped * CHROMA
    clips = (luma + chroma)[:, :, :num_frames, :side, :side]
    return 0.5 * clips / clips.std()


def _fit_encoder(tokenizer: VideoTokenizer, bands: Tensor) -> tuple[Tensor, Aims]:
    """Features before the encoder's last normalisation, and the activations of each grid."""
    encoder = tokenizer.encoder
    conv = encoder.conv_in.space
    basis = _components(bands.flatten(0, 3), conv.out_channels - 1)
    basis = basis / (bands @ basis.T).square().sum(-1).mean().sqrt()
    nn.init.zeros_(conv.weight)
    conv.weight[: len(basis), :, 0, 1, 1] = basis
    assert conv.bias is not None
    conv.bias[-1] = CONSTANT
    x = encoder.conv_in(bands)
    aims = {tuple(x.shape[1:4]): x}
    for level in cast(list[Level], list(encoder.levels)):
        for block in cast(list[ResidualBlock], list(level.blocks)):
            if not isinstance(block.shortcut, nn.Identity):
                _widen(block.shortcut.weight)
            x = block(x)
        if isinstance(level.resample, Downsample):
            x = _fit_downsample(level.resample, x, aims)
    for each in (x, encoder.middle(x)):
        aims[tuple(x.shape[1:4])] = each
    active = F.silu(encoder.norm_out(x))
    plain = x[..., : conv.out_channels - 1].flatten(0, 3)
    count = encoder.conv_out.space.out_channels
    wanted = plain @ _components(plain, count).T
    if wanted.shape[1] < count:  # more latents than features: the others start as mixtures
        mixing = torch.randn(active.shape[-1], count - wanted.shape[1])
        wanted = torch.cat((wanted, active.flatten(0, 3) @ mixing / len(mixing)), 1)
    wanted = wanted / wanted.square().mean().sqrt()
    nn.init.zeros_(encoder.conv_out.space.weight)
    weight, _bias(encoder.conv_out.space).data = _regression(active.flatten(0, 3), wanted)
    encoder.conv_out.space.weight[:, :, 0, 1, 1] = weight
    return x, aims


def _fit_downsample(down: Downsample, x: Tensor, aims: Aims) -> Tensor:
    if down.space is not None:
        taps = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        weight = _pooled(taps, down.hybrid).unflatten(1, (2, 2)).permute(0, 3, 1, 2)
        nn.init.zeros_(down.space.weight)
        down.space.weight[:, :, 0, :2, :2] = weight
        y = down.space(x)
        x = y + frames_last(F.avg_pool2d(frames_first(x), 2), len(x)) if down.hybrid else y
        aims[tuple(x.shape[1:4])] = x
    if down.time is not None:
        x = torch.cat((x[:, :1], x), 1)
        weight = _pooled([x[:, 0::2], x[:, 1::2]], down.hybrid)
        down.time.weight[:, :, :, 0, 0] = 0
        down.time.weight[:, :, 1:, 0, 0] = weight.permute(0, 2, 1)
        x = down.time(x) + (x[:, 0::2] + x[:, 1::2]) / 2
        aims[tuple(x.shape[1:4])] = x
    return x


def _pooled(taps: list[Tensor], hybrid: bool) -> Float[Tensor, "o k i"]:
    """Components of pooled positions, less the mean that a ``hybrid``'s pooling branch adds; the
    constant in the last channel passes."""
    stacked = torch.stack(taps, -2)
    features = stacked.shape[-1] - 1
    basis = _components(stacked[..., :-1].flatten(-2).flatten(0, 3), features)
    weight = stacked.new_zeros(features + 1, len(taps), features + 1)
    weight[:-1, :, :-1] = basis.unflatten(1, (len(taps), features)) / len(taps) ** 0.5
    mean = torch.eye(features + 1)[:, None] / len(taps)
    if hybrid:
        weight[:-1] -= mean[:-1]
    else:
        weight[-1] = mean[-1]
    return weight


def _fit_decoder(tokenizer: VideoTokenizer, features: Tensor, aims: Aims, bands: Tensor) -> None:
    decoder, encoder = tokenizer.decoder, tokenizer.encoder
    z = encoder.conv_out(F.silu(encoder.norm_out(features)))
    if tokenizer.config.fsq_levels is not None:
        _spread(tokenizer.to_latents.weight, z)
    latents = tokenizer.quantize(tokenizer.to_latents(z))
    _pass_back(tokenizer.from_latents.weight, tokenizer.to_latents.weight)
    x = tokenizer.from_latents(latents)
    _fit_space(decoder.conv_in.space, x, _aim(aims, x, decoder.conv_in.space.out_channels))
    x = decoder.conv_in(x)
    for level in reversed(cast(list[Level], list(decoder.levels))):
        for block in cast(list[ResidualBlock], list(level.blocks)):
            if not isinstance(block.shortcut, nn.Identity):
                aim = _aim(aims, x, block.shortcut.out_channels)
                weight, _bias(block.shortcut).data = _regression(x.flatten(0, 3), aim.flatten(0, 3))
                block.shortcut.weight[:, :, 0, 0, 0] = weight
            x = block(x)
        if isinstance(level.resample, Upsample):
            x = _fit_upsample(level.resample, x, aims)
    _fit_space(decoder.conv_out.space, F.silu(decoder.norm_out(x)), bands)


def _fit_upsample(up: Upsample, x: Tensor, aims: Aims) -> Tensor:
    if up.time is not None:
        x = x.repeat_interleave(2, 1)[:, 1:]
        if tuple(x.shape[1:4]) in aims:
            rest = _aim(aims, x, x.shape[-1]) - x
            past = torch.cat((x[:, :1], x[:, :1], x), 1)
            taps = torch.stack([past[:, i : i + x.shape[1]] for i in range(3)], -1)
            found = _regression(taps.flatten(-2).flatten(0, 3), rest.flatten(0, 3))
            up.time.weight[:, :, :, 0, 0], _bias(up.time).data = (
                found[0].unflatten(1, (-1, 3)),
                found[1],
            )
        x = x + up.time(x)
    if up.space is not None:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        given = x if up.hybrid else torch.zeros_like(x)
        if tuple(x.shape[1:4]) in aims:
            _fit_space(up.space, x, _aim(aims, x, x.shape[-1]) - given)
        x = given + up.space(x)
    return x


def _bias(conv: nn.Conv3d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _fit_space(conv: SpatialConv, x: Tensor, wanted: Tensor) -> None:
    taps = F.unfold(frames_first(x), 3, padding=1).transpose(1, 2).flatten(0, 1)
    weight, _bias(conv).data = _regression(taps, wanted.flatten(0, 3))
    conv.weight[:, :, 0] = weight.unflatten(1, (-1, 3, 3))


def _aim(aims: Aims, x: Tensor, width: int) -> Tensor:
    """The encoder's activations at x's grid with both signs: all, or the strongest and the
    constant."""
    found = aims.get(tuple(x.shape[1:4]), x)
    if 2 * found.shape[-1] > width:
        found = torch.cat((found[..., : width // 2 - 1], found[..., -1:]), -1)
    signed = torch.cat((found, -found), -1)
    return F.pad(signed, (0, width - signed.shape[-1]))


def _components(x: Float[Tensor, "n d"], count: int) -> Float[Tensor, "k d"]:
    """At most ``count`` principal directions (about zero), the strongest first."""
    vectors = torch.linalg.eigh(x.T.double() @ x.double()).eigenvectors.flip(1)
    return vectors[:, :count].T.to(x.dtype)


def _regression(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n e"]
) -> tuple[Float[Tensor, "e d"], Float[Tensor, " e"]]:
    """Weight and bias of the ridge regression of y on x."""
    centre, mean = x.mean(0), y.mean(0)
    inputs = (x - centre).double()
    gram = inputs.T @ inputs
    ridge = RIDGE * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram)).to(gram)
    solution = torch.linalg.solve(gram + ridge, inputs.T @ (y - mean).double()).T.to(x.dtype)
    return solution, mean - solution @ centre


def _pass_on(weight: Tensor) -> None:
    """The identity on the last tap in time, which is the present frame."""
    nn.init.zeros_(weight)
    nn.init.eye_(weight[:, :, -1, 0, 0])


def _spread(weight: Tensor, z: Tensor) -> None:
    """The strongest features, each of standard deviation 1: all codes are within reach."""
    count = min(weight.shape[:2])
    nn.init.zeros_(weight)
    scale = z.flatten(0, 3)[:, :count].std(0).clamp_min(1e-6)
    weight[:count, :count, 0, 0, 0] = torch.diag(1 / scale)


def _pass_back(weight: Tensor, forth: Tensor) -> None:
    weight[:, :, 0, 0, 0] = torch.linalg.pinv(forth[:, :, 0, 0, 0])


def _widen(weight: Tensor) -> None:
    """Features with both signs if the output is at least twice as wide, else as they are."""
    out, width = weight.shape[:2]
    nn.init.zeros_(weight)
    nn.init.eye_(weight[:width, :, 0, 0, 0])
    if out >= 2 * width:
        weight[width : 2 * width, :, 0, 0, 0] = -torch.eye(width)
