"""The published tokenizers and ours, by name."""

from __future__ import annotations

import difflib

from openwfm.tokenizer.config import TokenizerConfig

# Names are temporal x spatial x spatial compression; arXiv 2501.03575, table 9, and its release.
PRESETS: dict[str, TokenizerConfig] = {
    "cv8x8x8": TokenizerConfig(),
    "cv8x16x16": TokenizerConfig(spatial_compression=16),
    "cv4x8x8": TokenizerConfig(channels_mult=(2, 4), temporal_compression=4),
    "cv4x8x8_360p": TokenizerConfig(patch_size=2, temporal_compression=4),
    "cv8x8x8_nano": TokenizerConfig(channels=32, channels_mult=(1, 2, 2), num_res_blocks=1),
}


def preset(name: str) -> TokenizerConfig:
    """Config of a published size, for instance ``cv8x8x8``; ValueError lists the names."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower(), PRESETS, n=1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ValueError(f"preset={name}: must be one of {', '.join(PRESETS)}{hint}")
    return PRESETS[name]
