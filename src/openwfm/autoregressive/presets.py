"""Published sizes, and ours (arXiv 2501.03575, table 13; the release's configurations)."""

from __future__ import annotations

import difflib
from dataclasses import replace

from openwfm.autoregressive.config import TransformerConfig, YarnConfig

_4B = TransformerConfig()
_12B = TransformerConfig(width=5120, num_layers=40, yarn=YarnConfig())
_NANO = TransformerConfig(
    width=192,
    num_layers=6,
    num_heads=4,
    num_kv_heads=2,
    head_dim=48,
    hidden=512,
    vocabulary=1000,
    grid=(3, 8, 8),
)


def _video2world(config: TransformerConfig) -> TransformerConfig:
    """Text by cross-attention in every layer; 64 more embeddings, of which one begins a video."""
    return replace(config, bov=True, context_width=1024, absolute_position=True, embeddings=64064)


PRESETS: dict[str, TransformerConfig] = {
    "ar_4b": _4B,
    "ar_5b_video2world": _video2world(_4B),
    "ar_12b": _12B,
    "ar_13b_video2world": _video2world(_12B),
    "ar_micro": replace(
        _4B, width=512, num_layers=8, num_heads=8, num_kv_heads=2, head_dim=64, hidden=1536
    ),
    "ar_nano": _NANO,
    "ar_nano_video2world": replace(_NANO, bov=True, context_width=384, absolute_position=True),
}


def preset(name: str) -> TransformerConfig:
    """Raises ValueError listing the names when there is no such preset."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower(), PRESETS, n=1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ValueError(f"preset={name}: must be one of {', '.join(PRESETS)}{hint}")
    return PRESETS[name]
