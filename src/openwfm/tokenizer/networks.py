"""Encoder and decoder of a tokenizer, between wavelet bands and ``z_channels``."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from openwfm.nn.causal import FactorizedConv, FrameNorm, Past
from openwfm.nn.derived import Derives
from openwfm.nn.direct import convolve
from openwfm.tokenizer.blocks import Level, Middle
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.tokenizer.folding import bands_of_cells, cells_of_bands
from openwfm.tokenizer.resampling import Downsample, Upsample


class Encoder(Derives):
    """Wavelet bands to ``z_channels``; the first levels halve space and time."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.patch_size, self.image = config.patch_size, config.is_image
        groups, last, joins = config.num_groups, len(config.widths) - 1, not config.is_image
        width = config.channels
        self.conv_in = FactorizedConv(config.num_bands, width, time=joins)
        self.levels = nn.ModuleList()
        for i, level_width in enumerate(config.widths):
            space, time = i < config.num_spatial, i < config.num_temporal
            some = (i < last or config.is_image) and (space or time)
            down = Downsample(level_width, space, time, joins) if some else None
            self.levels.append(
                Level(width, level_width, config.num_res_blocks, groups, down, time=joins)
            )
            width = level_width
        self.middle = Middle(width, groups, time=joins, window=config.attention_window)
        self.norm_out = FrameNorm(width, groups)
        self.conv_out = FactorizedConv(width, config.z_channels, time=joins)

    def forward(
        self, bands: Float[Tensor, "b t h w d"], past: Past | None = None
    ) -> Float[Tensor, "b f y x z"]:
        return self._body(self.conv_in(bands, past), past)

    def infer(
        self, cells: Float[Tensor, "b t h w d"], past: Past | None = None
    ) -> Float[Tensor, "b f y x z"]:
        """Of pixels by cell (`openwfm.nn.wavelet.to_cells`): the wavelet is in the first kernel."""
        fold = partial(bands_of_cells, patch_size=self.patch_size, image=self.image)
        (weight,) = self.derived("cells", fold, self.conv_in.space.weight)
        x = convolve(cells, weight, self.conv_in.space.bias, 1)
        return self._body(x if self.conv_in.time is None else self.conv_in.time(x, past), past)

    def _body(self, x: Float[Tensor, "b t h w c"], past: Past | None) -> Float[Tensor, "b f y x z"]:
        for level in self.levels:
            x = level(x, past)
        return self.conv_out(self.norm_out.activated(self.middle(x, past)), past)


class Decoder(Derives):
    """``z_channels`` to wavelet bands; not the encoder's mirror image.

    With r = 0 at the deepest level, time doubles after the blocks of levels 1 ≤ r ≤ num_temporal,
    and space with it; when space is compressed more than time, it doubles from r = 0 on. Images
    double after the last ``num_spatial`` levels, the highest resolution included.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.patch_size, self.image = config.patch_size, config.is_image
        groups, last, joins = config.num_groups, len(config.widths) - 1, not config.is_image
        width = config.widths[-1]
        self.conv_in = FactorizedConv(config.z_channels, width, time=joins)
        self.middle = Middle(width, groups, time=joins, window=config.attention_window)
        levels = []
        for i in range(last, -1, -1):
            depth, level_width = last - i, config.widths[i]
            time = 0 < depth <= config.num_temporal
            space = time or (depth < config.num_spatial > config.num_temporal)
            some = depth < config.num_spatial if config.is_image else i > 0 and space
            up = Upsample(level_width, space, time, joins) if some else None
            blocks = config.num_res_blocks + 1
            levels.append(Level(width, level_width, blocks, groups, up, time=joins))
            width = level_width
        self.levels = nn.ModuleList(reversed(levels))
        self.norm_out = FrameNorm(width, groups)
        self.conv_out = FactorizedConv(width, config.num_bands, time=joins)

    def forward(
        self, z: Float[Tensor, "b f y x z"], past: Past | None = None
    ) -> Float[Tensor, "b t h w d"]:
        return self.conv_out(self._body(z, past), past)

    def infer(
        self, z: Float[Tensor, "b f y x z"], past: Past | None = None
    ) -> Float[Tensor, "b t h w d"]:
        """Pixels by cell (`openwfm.nn.wavelet.from_cells`): the wavelet is in the last kernel."""
        x, conv = self._body(z, past), self.conv_out.last
        fold = partial(cells_of_bands, patch_size=self.patch_size, image=self.image)
        weight, bias = self.derived("cells", fold, conv.weight, conv.bias)
        if self.conv_out.time is None:
            return convolve(x, weight, bias, 1)
        return self.conv_out.time.infer(self.conv_out.space(x), past, weight, bias)

    def _body(self, z: Float[Tensor, "b f y x z"], past: Past | None) -> Float[Tensor, "b t h w c"]:
        x = self.middle(self.conv_in(z, past), past)
        for level in reversed(self.levels):
            x = level(x, past)
        return self.norm_out.activated(x)
