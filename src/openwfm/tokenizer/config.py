"""What a tokenizer is made of; every rule is checked here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openwfm.shapes import Temporal

MAX_CODES = 2**31 - 1


def _positive_int(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"tokenizer.{name}={value!r}: must be a positive integer")


def _one_of(name: str, value: int, allowed: Sequence[int], rule: str) -> None:
    if value not in allowed:
        choices = ", ".join(map(str, allowed))
        raise ValueError(f"tokenizer.{name}={value}: must be one of {choices} ({rule})")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A causal wavelet tokenizer of clips or images (arXiv 2501.03575, section 4.1).

    Level i has ``channels·channels_mult[i]`` channels. The wavelet compresses by ``patch_size`` in
    time and space, the first levels by the rest. ``z_channels`` leave the encoder and a pointwise
    convolution turns them into ``latent_channels``. Normalisation has ``num_groups`` groups whose
    statistics are taken frame by frame.

    The bottleneck is continuous, or discrete with ``fsq_levels`` values in each latent channel.
    ``temporal_compression`` 1 is an image tokenizer: no layer joins frames. A latent frame attends
    to the last ``attention_window`` latent frames, itself included; None: to all before it.
    """

    channels: int = 128
    channels_mult: tuple[int, ...] = (2, 4, 4)
    num_res_blocks: int = 2
    patch_size: int = 4
    spatial_compression: int = 8
    temporal_compression: int = 8
    z_channels: int = 16
    latent_channels: int = 16
    in_channels: int = 3
    num_groups: int = 1
    fsq_levels: tuple[int, ...] | None = None
    attention_window: int | None = None

    def __post_init__(self) -> None:
        for name in ("channels_mult", "fsq_levels"):
            value = getattr(self, name)
            if name == "fsq_levels" and value is None:
                continue
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ValueError(f"tokenizer.{name}={value!r}: must be a list")
            object.__setattr__(self, name, tuple(value))
        for name in ("channels", "num_res_blocks", "patch_size", "spatial_compression"):
            _positive_int(name, getattr(self, name))
        for name in ("temporal_compression", "z_channels", "latent_channels", "in_channels"):
            _positive_int(name, getattr(self, name))
        _positive_int("num_groups", self.num_groups)
        for index, factor in enumerate(self.channels_mult):
            _positive_int(f"channels_mult[{index}]", factor)
        _one_of("patch_size", self.patch_size, (2, 4), "a power of two that the wavelet splits")
        self._check_compression()
        self._check_bottleneck()
        for width in (self.channels, *self.widths):
            if width % self.num_groups:
                raise ValueError(
                    f"tokenizer.num_groups={self.num_groups}: must divide every width, so {width}"
                )

    def _check_compression(self) -> None:
        reach = [self.patch_size * 2**level for level in range(4)]
        rule = f"patch_size={self.patch_size} times a power of two"
        _one_of("spatial_compression", self.spatial_compression, reach, rule)
        rule += ", or 1 for images"
        _one_of("temporal_compression", self.temporal_compression, [1, *reach], rule)
        space, time, levels = self.num_spatial, self.num_temporal, len(self.channels_mult)
        if time > space:
            raise ValueError(
                f"tokenizer.temporal_compression={self.temporal_compression}: must be at most "
                f"spatial_compression={self.spatial_compression} "
                "(the decoder only expands time where it expands space)"
            )
        needed = space + (2 if space == time and space > 0 else 1)
        if self.is_image:
            needed = max(1, space)  # every level of an image network may resample, the last too
        if levels < needed:
            raise ValueError(
                f"tokenizer.channels_mult={self.channels_mult}: must have at least {needed} levels "
                f"to reach {self.temporal_compression}x{self.spatial_compression}"
                f"x{self.spatial_compression} from patch_size={self.patch_size}"
            )

    def _check_bottleneck(self) -> None:
        if self.fsq_levels is not None:
            for index, count in enumerate(self.fsq_levels):
                _positive_int(f"fsq_levels[{index}]", count)
                if count < 2:
                    raise ValueError(f"tokenizer.fsq_levels[{index}]={count}: must be at least 2")
            if len(self.fsq_levels) != self.latent_channels:
                raise ValueError(
                    f"tokenizer.latent_channels={self.latent_channels}: must be "
                    f"{len(self.fsq_levels)}, one for each of fsq_levels={self.fsq_levels}"
                )
            if math.prod(self.fsq_levels) > MAX_CODES:
                raise ValueError(
                    f"tokenizer.fsq_levels={self.fsq_levels}: their product "
                    f"{math.prod(self.fsq_levels)} must be at most {MAX_CODES} (int32 indices)"
                )
        if self.attention_window is not None:
            _positive_int("attention_window", self.attention_window)
            if self.is_image:
                raise ValueError(
                    f"tokenizer.attention_window={self.attention_window}: must be null with "
                    "temporal_compression=1 (images do not attend to each other)"
                )

    @property
    def is_image(self) -> bool:
        """No layer joins frames: a clip is a pile of images."""
        return self.temporal_compression == 1

    @property
    def num_codes(self) -> int | None:
        """Size of the vocabulary of a discrete tokenizer."""
        return None if self.fsq_levels is None else math.prod(self.fsq_levels)

    @property
    def num_bands(self) -> int:
        """Channels of the wavelet bands."""
        return self.in_channels * self.patch_size ** (2 if self.is_image else 3)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.channels * factor for factor in self.channels_mult)

    @property
    def num_spatial(self) -> int:
        """Levels that halve rows and columns, after the wavelet."""
        return (self.spatial_compression // self.patch_size).bit_length() - 1

    @property
    def num_temporal(self) -> int:
        """Levels that halve time, after the wavelet."""
        if self.is_image:
            return 0
        return (self.temporal_compression // self.patch_size).bit_length() - 1

    @property
    def temporal(self) -> Temporal:
        return Temporal(ratio=self.temporal_compression)
