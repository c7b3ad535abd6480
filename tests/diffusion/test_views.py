"""Several views: against a plain implementation from the release's names, and what each may see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openwfm.diffusion import DiT, DiTConfig
from openwfm.diffusion.views import ViewChannels, attend_per_view, fold_text
from openwfm.interop.nvidia import export_dit, load_dit

NET = DiTConfig(
    condition_mask=True,
    width=256,
    num_blocks=2,
    num_heads=2,
    adaln_rank=32,
    text_width=48,
    position_embedding="sincos",
    num_views=6,
    view_channels=6,
)


def random_net(config: DiTConfig) -> DiT:
    torch.manual_seed(0)
    net = DiT(config).eval()
    for name, parameter in net.named_parameters():
        fan = parameter.shape[-1] if parameter.ndim > 1 else 4
        torch.nn.init.normal_(parameter, std=fan**-0.5)
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return net


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def waves(position: int, dim: int) -> Tensor:
    angle = position * 10000.0 ** (-torch.arange(dim // 2).double() * 2 / dim)
    return torch.cat((angle.sin(), angle.cos()))


def plain(
    p: Mapping[str, Tensor],
    latents: Tensor,
    c_noise: float,
    text: Tensor,
    fps: float,
    mask: Tensor,
    padding: Tensor,
    repeat: Tensor,
    heads: int = 2,
    views: int = 6,
) -> Tensor:
    """One clip (z, v·f, y, x), token by token where it can be, in fp64."""
    p = {key.removeprefix("net."): value.double() for key, value in p.items()}
    z, vf, y, x = latents.shape
    f = vf // views
    width = p["affline_norm.weight"].shape[0]
    size = width // heads
    tokens, rotations, places = [], [], []
    dims = (size - 2 * (size // 6 * 2), size // 6 * 2, size // 6 * 2)
    for index in range(vf):
        view, frame = divmod(index, f)
        name = p["view_embeddings.weight"][view]
        name = name + p["repeat_frame_embedding.weight"][:, 0] * repeat[view]
        name = name + p["repeat_frame_embedding.bias"]
        for row in range(y // 2):
            for column in range(x // 2):
                patch = []
                at = (slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
                for channel in range(z):
                    patch.append(latents[channel, index][at].flatten())
                patch.append(mask[index][at].flatten())
                patch.append(padding[at].flatten())
                patch += [value.expand(4) for value in name]
                tokens.append(p["x_embedder.proj.1.weight"] @ torch.cat(patch).double())
                times = ((frame * 24 / fps, 2.0), (row, 1.0), (column, 1.0))
                angles = []
                for (position, ratio), dim in zip(times, dims, strict=True):
                    theta = 10000 * ratio ** (dim / (dim - 2))
                    angles += [position * theta ** (-2 * j / dim) for j in range(dim // 2)]
                rotations.append(torch.tensor(angles * 2, dtype=torch.float64))
                side = width // 6 * 2
                parts = ((frame, width - 2 * side), (row, side), (column, side))
                places.append(torch.cat([waves(at, dim) for at, dim in parts]))
    h, turn, place = torch.stack(tokens), torch.stack(rotations), torch.stack(places)

    frequency = torch.exp(-math.log(10000) * torch.arange(width // 2).double() / (width // 2))
    raw = torch.cat((torch.cos(c_noise * frequency), torch.sin(c_noise * frequency)))
    shared = F.silu(raw @ p["t_embedder.1.linear_1.weight"].T) @ p["t_embedder.1.linear_2.weight"].T
    level = F.silu(rms(raw, p["affline_norm.weight"]))

    def modulation(prefix: str) -> Tensor:
        low = p[f"{prefix}.2.weight"] @ (p[f"{prefix}.1.weight"] @ level)
        return (low + shared[: len(low)]).view(-1, width)

    def normed(value: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(value, (width,), eps=1e-6) * (1 + scale) + shift

    def rotated(value: Tensor) -> Tensor:
        half = size // 2
        swapped = torch.cat((-value[..., half:], value[..., :half]), -1)
        return value * turn.cos() + swapped * turn.sin()

    def attention(prefix: str, source: Tensor, context: Tensor, turned: bool) -> Tensor:
        q, k, v = (
            (tensor @ p[f"{prefix}.to_{part}.0.weight"].T).view(-1, heads, size).transpose(0, 1)
            for part, tensor in (("q", source), ("k", context), ("v", context))
        )
        q, k = (rms(t, p[f"{prefix}.to_{n}.1.weight"]) for t, n in ((q, "q"), (k, "k")))
        if turned:
            q, k = rotated(q), rotated(k)
        mixed = (q @ k.transpose(1, 2) / size**0.5).softmax(-1) @ v
        return mixed.transpose(0, 1).flatten(1) @ p[f"{prefix}.to_out.0.weight"].T

    per_view, number = len(h) // views, text.shape[0] // views
    for index in range(2):
        block = f"blocks.block{index}.blocks"
        h = h + place
        shift, scale, gate = modulation(f"{block}.0.adaLN_modulation")
        inside = normed(h, shift, scale)
        h = h + gate * attention(f"{block}.0.block.attn", inside, inside, True)
        shift, scale, gate = modulation(f"{block}.1.adaLN_modulation")
        inside, out = normed(h, shift, scale), []
        for view in range(views):
            own = text[view * number : (view + 1) * number].double()
            some = inside[view * per_view : (view + 1) * per_view]
            out.append(attention(f"{block}.1.block.attn", some, own, False))
        h = h + gate * torch.cat(out)
        shift, scale, gate = modulation(f"{block}.2.adaLN_modulation")
        inside = normed(h, shift, scale) @ p[f"{block}.2.block.layer1.weight"].T
        h = h + gate * (F.gelu(inside) @ p[f"{block}.2.block.layer2.weight"].T)
    shift, scale = modulation("final_layer.adaLN_modulation")
    h = normed(h, shift, scale) @ p["final_layer.linear.weight"].T
    result = torch.zeros(z, vf, y, x, dtype=torch.float64)
    for token, values in enumerate(h):
        index, rest = divmod(token, (y // 2) * (x // 2))
        row, column = divmod(rest, x // 2)
        square = values.view(2, 2, z).permute(2, 0, 1)
        result[:, index, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = square
    return result


@pytest.mark.parametrize("frames, rows, columns, fps", [(1, 4, 6, 24.0), (2, 4, 4, 10.0)])
def test_equals_a_plain_implementation(frames: int, rows: int, columns: int, fps: float) -> None:
    net = random_net(NET)
    net = load_dit(export_dit(net), max_size=NET.max_size)  # the release's keys, strictly
    assert net.config == NET
    latents, text = torch.randn(2, 16, 6 * frames, rows, columns), torch.randn(2, 6 * 3, 48)
    mask = (torch.rand(2, 1, 6 * frames, rows, columns) > 0.5).float()
    padding = (torch.rand(2, 1, rows, columns) > 0.5).float()
    repeat, level = torch.rand(2, 6), torch.tensor([0.4, -0.9])
    with torch.no_grad():
        found = net(
            latents,
            level,
            text=text,
            fps=fps,
            condition_mask=mask,
            padding_mask=padding,
            frame_repeat=repeat,
        )
        per_view = net(
            latents,
            level,
            text=text.view(2, 6, 3, 48),
            fps=torch.tensor([fps, fps]),
            condition_mask=mask,
            padding_mask=padding,
            frame_repeat=repeat,
        )
    assert torch.equal(found, per_view)
    weights = export_dit(net)
    for i in range(2):
        one = (latents[i], float(level[i]), text[i], fps, mask[i, 0], padding[i, 0], repeat[i])
        expected = plain(weights, *one)
        assert (found[i] - expected).abs().max() / expected.abs().max() < 1e-5


def test_text_of_a_view_reaches_only_that_view_in_cross_attention() -> None:
    """Joint self-attention mixes views from the second block on, so look at one block's."""
    net = random_net(replace(NET, num_blocks=1))
    text = torch.randn(2, 6, 3, 48)
    other = text.clone()
    other[:, 4] += 1
    x = torch.randn(2, 6 * 5, 256)
    attention = net.blocks[0].cross_attention
    with torch.no_grad():
        outputs = []
        for each in (text, other):
            (keys,) = net.text_keys(each, 7)
            outputs.append(attend_per_view(attention, x, keys, 6).view(2, 6, 5, 256))
        differs = (outputs[0] != outputs[1]).flatten(2).any(-1)
        assert differs[:, 4].all() and not differs[:, [0, 1, 2, 3, 5]].any()
        latents, mask = torch.randn(2, 16, 6, 4, 4), torch.zeros(2, 1, 6, 4, 4)
        whole = [
            net(latents, torch.zeros(1), text=t, fps=24.0, condition_mask=mask)
            for t in (text, other)
        ]
    # a single block ends in cross-attention and MLP, which are both per token
    differs = (whole[0] != whole[1]).flatten(3).any(-1).any(1)
    assert differs[:, 4].all() and not differs[:, [0, 1, 2, 3, 5]].any()


def test_two_blocks_mix_the_views() -> None:
    net = random_net(NET)
    text, latents = torch.randn(1, 6, 3, 48), torch.randn(1, 16, 6, 4, 4)
    other = text.clone()
    other[:, 4] += 1
    mask = torch.zeros(1, 1, 6, 4, 4)
    with torch.no_grad():
        a, b = (
            net(latents, torch.zeros(1), text=t, fps=24.0, condition_mask=mask)
            for t in (text, other)
        )
    assert (a != b).flatten(3).any(-1).any(1).all()


def test_without_view_channels_views_are_exchangeable() -> None:
    """Time restarts in each view: only the channels (and the text) tell views apart."""
    net = random_net(NET)
    latents, text = torch.randn(1, 6, 16, 2, 4, 4), torch.randn(1, 6, 3, 48)
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    mask = torch.zeros(1, 1, 12, 4, 4)

    def run(permuted: Tensor, words: Tensor) -> Tensor:
        merged = permuted.transpose(1, 2).flatten(2, 3)
        out = net(merged, torch.zeros(1), text=words, fps=24.0, condition_mask=mask)
        return out.unflatten(2, (6, 2)).transpose(1, 2)

    with torch.no_grad():
        named = run(latents, text)[:, order]
        assert not torch.allclose(named, run(latents[:, order], text[:, order]), atol=1e-3)
        net.views.embedding.weight.zero_()
        same = run(latents, text)[:, order]
        assert torch.allclose(same, run(latents[:, order], text[:, order]), atol=1e-5)


def test_no_frame_repeat_means_zeros() -> None:
    module = ViewChannels(6, 4)
    assert torch.equal(module((2, 12, 3, 3), None), module((2, 12, 3, 3), torch.zeros(2, 6)))
    found = module((2, 12, 3, 3), torch.arange(6.0)[None])
    assert found.shape == (2, 4, 12, 3, 3)
    expected = module.embedding.weight[2] + 2 * module.repeat.weight[:, 0] + module.repeat.bias
    assert torch.allclose(found[1, :, 5, 2, 0], expected)


@pytest.mark.parametrize(
    "frames, changes, message",
    [
        (7, {}, "7 frames: must divide by net.num_views=6"),
        (6 * 129, {}, "129 frames.*at most 128"),
        (6, {"text": torch.zeros(1, 7, 48)}, "text: shape.*num_views=6"),
        (6, {"text": torch.zeros(1, 5, 3, 48)}, "text: shape.*num_views=6"),
        (6, {"text": torch.zeros(1, 6, 3, 40)}, "width 40.*text_width=48"),
        (6, {"frame_repeat": torch.zeros(1, 5)}, "frame_repeat: shape"),
    ],
)
def test_bad_input(frames: int, changes: dict[str, Tensor], message: str) -> None:
    net = random_net(replace(NET, num_blocks=1, condition_mask=False))
    values = {"text": torch.zeros(1, 6, 3, 48), "fps": 24.0, **changes}
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(1, 16, frames, 2, 2), torch.zeros(1), **values)  # type: ignore[arg-type]


def test_text_folds_alike_from_both_layouts() -> None:
    text = torch.randn(2, 6, 5, 3)
    assert torch.equal(fold_text(text, 6), fold_text(text.flatten(1, 2), 6))
    assert fold_text(text[:, 0], 1) is not None and fold_text(text[:, 0], 1).shape == (2, 5, 3)
