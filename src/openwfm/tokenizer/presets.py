"""Published tokenizer sizes, and ours."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from openwfm.tokenizer.config import TokenizerConfig

FSQ_LEVELS = (8, 8, 8, 5, 5, 5)  # 64,000 codes


def _discrete(config: TokenizerConfig, z_channels: int) -> TokenizerConfig:
    return replace(
        config, z_channels=z_channels, latent_channels=len(FSQ_LEVELS), fsq_levels=FSQ_LEVELS
    )


def _nano(config: TokenizerConfig, channels_mult: Sequence[int] = (1, 2, 2)) -> TokenizerConfig:
    return replace(config, channels=32, channels_mult=tuple(channels_mult), num_res_blocks=1)


_CLIP = TokenizerConfig()
_CLIP_4 = replace(_CLIP, temporal_compression=4)
_IMAGE = TokenizerConfig(temporal_compression=1, num_groups=32)
_IMAGE_360P = replace(_IMAGE, patch_size=2)

# C continuous, D discrete; V video (temporal x spatial x spatial compression), I image. Those for
# 360p split smaller patches. arXiv 2501.03575, table 9, and the configurations of its release.
PRESETS: dict[str, TokenizerConfig] = {
    "cv8x8x8": _CLIP,
    "cv8x16x16": replace(_CLIP, spatial_compression=16),
    "cv4x8x8": replace(_CLIP_4, channels_mult=(2, 4)),
    "cv4x8x8_360p": replace(_CLIP_4, patch_size=2),
    "dv8x8x8": _discrete(_CLIP, 16),
    "dv8x16x16": _discrete(replace(_CLIP, spatial_compression=16), 16),
    "dv4x8x8": _discrete(_CLIP_4, 16),
    "dv4x8x8_360p": _discrete(replace(_CLIP_4, patch_size=2), 256),
    "ci8x8": _IMAGE,
    "ci16x16": replace(_IMAGE, spatial_compression=16),
    "ci8x8_360p": _IMAGE_360P,
    "ci16x16_360p": replace(_IMAGE_360P, spatial_compression=16),
    "di8x8": _discrete(_IMAGE, 256),
    "di16x16": _discrete(replace(_IMAGE, spatial_compression=16), 256),
    "di8x8_360p": _discrete(_IMAGE_360P, 256),
    "di16x16_360p": _discrete(replace(_IMAGE_360P, spatial_compression=16), 256),
    "cv8x8x8_nano": _nano(_CLIP),
    "cv4x8x8_nano": _nano(_CLIP_4, (1, 2)),
    "dv8x8x8_nano": _nano(_discrete(_CLIP, 16)),
    "dv4x8x8_nano": _nano(_discrete(_CLIP_4, 16)),
    "ci8x8_nano": _nano(replace(_IMAGE, num_groups=8)),
    "di8x8_nano": _nano(_discrete(replace(_IMAGE, num_groups=8), 32)),
}


def preset(name: str) -> TokenizerConfig:
    """Config of a published size, for instance ``cv8x8x8``; ValueError lists the names."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower(), PRESETS, n=1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ValueError(f"preset={name}: must be one of {', '.join(PRESETS)}{hint}")
    return PRESETS[name]
