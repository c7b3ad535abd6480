"""Frames larger than memory: encode and decode in tiles, equal to the whole frame.

Only two things in a tokenizer look further than a few pixels: the attention in space, at the latent
resolution, where a frame is small, and the normalisation, which needs mean and variance of whole
frames. So the middle runs whole, and the levels around it tile by tile, each tile with a margin as
wide as its convolutions reach; before that, one pass over the tiles for each norm measures its
statistics, with those of the norms before it known. Tiles end where the frame ends, so padding is
that of the whole frame.

At the highest resolution nothing but pixels is kept for the whole frame: every pass starts from
them (or, on the way up, from half the resolution), which multiplies the work there: with n residual
blocks about (n + 1)-fold. Deeper levels pass whole frames from block to block, 1.5-fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.data.running import Moments
from openwfm.nn.causal import FrameNorm
from openwfm.nn.wavelet import haar_forward, haar_inverse
from openwfm.tokenizer.blocks import Level
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.tokenizer.networks import Decoder, Encoder

if TYPE_CHECKING:
    from openwfm.tokenizer.autoencoder import VideoTokenizer

Op = Callable[[Tensor], Tensor]  # on channels-last frames, b t h w c


def check_tile(tile: int | None, config: TokenizerConfig) -> None:
    """Raises ValueError unless ``tile`` is None or a multiple of the spatial compression."""
    unit = config.spatial_compression
    if tile is not None and (isinstance(tile, bool) or tile < unit or tile % unit):
        nearest = max(unit, round(tile / unit) * unit)
        raise ValueError(f"tile={tile}: must be a multiple of {unit} (nearest: {nearest})")


@torch.no_grad()
def encode_tiled(
    tokenizer: VideoTokenizer, video: Float[Tensor, "b c t h w"], tile: int
) -> Float[Tensor, "b z f y x"]:
    """Unchecked `VideoTokenizer.encode_chunk` of a whole clip, in tiles of ``tile`` pixels a side.

    Equal up to the order of floating-point sums; a discrete code on the edge of two may differ.
    """
    x = video.permute(0, 2, 3, 4, 1)
    for stage in _encoder_stages(tokenizer):
        x = stage.run(x, tile)
    encoder = tokenizer.encoder
    x = encoder.conv_out(F.silu(encoder.norm_out(encoder.middle(x))))
    return rearrange(tokenizer.quantize(tokenizer.to_latents(x)), "b f y x z -> b z f y x")


@torch.no_grad()
def decode_tiled(
    tokenizer: VideoTokenizer, latents: Float[Tensor, "b z f y x"], tile: int
) -> Float[Tensor, "b c t h w"]:
    """Unchecked `VideoTokenizer.decode_chunk` of all latents; see `encode_tiled`."""
    decoder = tokenizer.decoder
    x = tokenizer.from_latents(rearrange(latents, "b z f y x -> b f y x z"))
    x = decoder.middle(decoder.conv_in(x))
    for stage in _decoder_stages(tokenizer):
        x = stage.run(x, tile)
    return x.permute(0, 4, 1, 2, 3)


def _levels(network: Encoder | Decoder) -> list[Level]:
    return [level for level in network.levels if isinstance(level, Level)]


def _encoder_stages(tokenizer: VideoTokenizer) -> Iterator[_Stage]:
    """The first level from pixels, then block by block."""
    encoder, config = tokenizer.encoder, tokenizer.config
    p, image = config.patch_size, config.is_image
    pixels = 1
    for index, level in enumerate(_levels(encoder)):
        ops: list[Op] = []
        modules: list[nn.Module] = []
        reach = 0
        factor = 1
        if index == 0:
            ops += [
                lambda x: haar_forward(x.permute(0, 4, 1, 2, 3), p, image=image),
                encoder.conv_in,
            ]
            reach, factor = 1, p
        for number, block in enumerate(level.blocks):
            ops.append(block)
            modules.append(block)
            reach += 2
            if index > 0 and number < len(level.blocks) - 1:
                yield _Stage(ops, modules, Fraction(1), 1, reach, pixels)
                ops, modules, reach = [], [], 0
        if level.resample is not None:
            ops.append(level.resample)
            reach, stride = reach + 1, 2
        else:
            stride = 1
        unit = factor * stride
        yield _Stage(ops, modules, Fraction(1, unit), unit, reach * factor, pixels)
        pixels *= unit


def _decoder_stages(tokenizer: VideoTokenizer) -> Iterator[_Stage]:
    """Block by block, then everything after the last change of resolution at once."""
    decoder, config = tokenizer.decoder, tokenizer.config
    p, image = config.patch_size, config.is_image
    flat: list[tuple[nn.Module, bool]] = []  # and whether it doubles rows and columns
    for level in reversed(_levels(decoder)):
        flat += [(block, False) for block in level.blocks]
        flat += [] if level.resample is None else [(level.resample, True)]
    last = max((i for i, (_, doubles) in enumerate(flat) if doubles), default=len(flat))
    pixels, index = config.spatial_compression, 0
    while index < min(last, len(flat)):
        module, doubles = flat[index]
        scale, reach = (2, 1) if doubles else (1, 2)
        yield _Stage([module], [module], Fraction(scale), 1, reach, pixels)
        pixels //= scale
        index += 1
    scale = 2 if last < len(flat) else 1
    modules = [module for module, _ in flat[index:]]
    reach = math.ceil((1 + 2 * len(modules) + 1) / scale)

    def pixels_of(x: Tensor) -> Tensor:
        bands = decoder.conv_out(F.silu(decoder.norm_out(x)))
        return haar_inverse(bands, p, image=image).permute(0, 2, 3, 4, 1)

    modules_and_norm = [*modules, decoder.norm_out]
    yield _Stage([*modules, pixels_of], modules_and_norm, Fraction(scale * p), 1, reach, pixels)


@dataclass(frozen=True)
class _Tile:
    """Rows (or columns) of a stage's input: what is wanted, and what is read for it."""

    start: int
    stop: int
    read_start: int
    read_stop: int

    def inner(self, scale: Fraction) -> slice:
        """Where the wanted rows are in what became of the read ones, ``scale`` as many."""
        start = (self.start - self.read_start) * scale
        stop = (self.stop - self.read_start) * scale
        assert start.denominator == stop.denominator == 1, (self, scale)
        return slice(int(start), int(stop))

    def place(self, scale: Fraction) -> slice:
        return slice(int(self.start * scale), int(self.stop * scale))


def _tiles(length: int, core: int, margin: int) -> list[_Tile]:
    return [
        _Tile(at, min(at + core, length), max(0, at - margin), min(at + core + margin, length))
        for at in range(0, length, core)
    ]


class _Stage:
    """Layers that run on tiles one after another.

    ``scale`` output rows come of an input row; tiles begin at multiples of ``unit`` input rows, of
    ``pixels`` pixels each, and ``reach`` rows around them are looked at.
    """

    def __init__(
        self,
        ops: Sequence[Op],
        modules: Sequence[nn.Module],
        scale: Fraction,
        unit: int,
        reach: int,
        pixels: int,
    ) -> None:
        self.ops, self.scale, self.pixels = ops, scale, pixels
        self.norms = [n for module in modules for n in module.modules() if isinstance(n, FrameNorm)]
        self.margin = math.ceil(reach / unit) * unit

    def run(self, x: Float[Tensor, "b t h w c"], tile: int) -> Float[Tensor, "b f y k d"]:
        rows, columns = (_tiles(side, tile // self.pixels, self.margin) for side in x.shape[2:4])
        grid = [(row, column) for row in rows for column in columns]
        with _Norms.watching(self.norms) as norms:
            for norm in self.norms:
                norms.measure(norm, (self._reach(norms, x, *at) for at in grid))
            out: Tensor | None = None
            for row, column in grid:
                y = self._through(_read(x, row, column))
                part = y[:, :, row.inner(self.scale), column.inner(self.scale)]
                if out is None:
                    height, width = (int(side * self.scale) for side in x.shape[2:4])
                    out = y.new_empty(*y.shape[:2], height, width, y.shape[4])
                out[:, :, row.place(self.scale), column.place(self.scale)] = part
        assert out is not None
        return out

    def _through(self, x: Tensor) -> Tensor:
        for op in self.ops:
            x = op(x)
        return x

    def _reach(self, norms: _Norms, x: Tensor, row: _Tile, column: _Tile) -> Tensor:
        """What enters the norm that is being measured, of the wanted part of a tile."""
        try:
            self._through(_read(x, row, column))
        except _Reached as reached:
            scale = Fraction(reached.x.shape[2], row.read_stop - row.read_start)
            return reached.x[:, :, row.inner(scale), column.inner(scale)]
        raise AssertionError("a norm of this stage was never called")


def _read(x: Tensor, row: _Tile, column: _Tile) -> Tensor:
    return x[:, :, row.read_start : row.read_stop, column.read_start : column.read_stop]


class _Reached(Exception):
    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x


class _Norms:
    """Stands in for norms while their layers run on tiles: measures, then applies."""

    def __init__(self) -> None:
        self.target: FrameNorm | None = None
        self.affine: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @classmethod
    @contextmanager
    def watching(cls, norms: Sequence[FrameNorm]) -> Iterator[_Norms]:
        self = cls()
        handles = [norm.register_forward_pre_hook(self._before) for norm in norms]
        handles += [norm.register_forward_hook(self._after) for norm in norms]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if norm is self.target:
            raise _Reached(inputs[0])

    def _after(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        scale, shift = self.affine[norm]
        return torch.addcmul(shift, inputs[0], scale)

    def measure(self, norm: FrameNorm, parts: Iterator[Float[Tensor, "b t h w c"]]) -> None:
        """Mean and variance of frames that come in parts; the norm is an affine map from now on."""
        self.target = norm
        total: Moments | None = None
        for part in parts:
            values = rearrange(part, "b t h w (g c) -> b t g (h w c)", g=norm.num_groups)
            variance, mean = torch.var_mean(values.double(), -1, correction=0)
            count = torch.full_like(mean, values.shape[-1])
            moments = Moments(count, mean, variance * count)
            total = moments if total is None else total + moments
        self.target = None
        assert total is not None
        inverse = (total.deviation / total.count + norm.eps).rsqrt()
        repeat = norm.num_channels // norm.num_groups
        each = [v.repeat_interleave(repeat, -1)[:, :, None, None] for v in (inverse, total.mean)]
        scale = each[0] * norm.weight
        shift = norm.bias - each[1] * scale
        self.affine[norm] = (scale.to(norm.weight.dtype), shift.to(norm.weight.dtype))
