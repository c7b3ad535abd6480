"""Published network sizes, and ours that train on two CPU cores."""

from __future__ import annotations

from dataclasses import replace

from openwfm.diffusion.config import DiTConfig

_7B = DiTConfig(width=4096, num_blocks=28, num_heads=32, rope_scale=(2.0, 1.0, 1.0))
_14B = DiTConfig(width=5120, num_blocks=36, num_heads=40, rope_scale=(2.0, 2.0, 2.0))
# Six cameras; positions are fixed waves, views are told apart by six channels.
_VIEWS = replace(_7B, position_embedding="sincos", num_views=6, view_channels=6)

PRESETS: dict[str, DiTConfig] = {
    "dit_7b_text2world": replace(_7B, condition_mask=False),
    "dit_7b_video2world": replace(_7B, condition_mask=True),
    "dit_14b_text2world": replace(_14B, condition_mask=False),
    "dit_14b_video2world": replace(_14B, condition_mask=True),
    "dit_7b_text2world_multiview": replace(_VIEWS, condition_mask=False),
    "dit_7b_video2world_multiview": replace(_VIEWS, condition_mask=True),
    # From tokens of DV8x16x16 to latents of CV8x8x8.
    "dit_7b_decoder": replace(
        _7B,
        condition_mask=False,
        rope_scale=(1.0, 1.5, 1.5),
        position_embedding="none",
        codebook=64000,
        code_channels=32,
    ),
    # One GPU, hours.
    "dit_micro": DiTConfig(
        width=768,
        num_blocks=12,
        num_heads=12,
        text_width=384,
        adaln_rank=64,
        rope_scale=(1.0, 1.0, 1.0),
        max_size=(32, 64, 64),
        zero_init_output=True,
    ),
    "dit_nano": DiTConfig(
        width=256,
        num_blocks=5,
        num_heads=4,
        text_width=384,
        adaln_rank=32,
        padding_mask=False,
        rope_scale=(1.0, 1.0, 1.0),
        max_size=(16, 32, 32),
        zero_init_output=True,
    ),
}
PRESETS["dit_nano_multiview"] = replace(PRESETS["dit_nano"], num_views=6, view_channels=6)


def preset(name: str) -> DiTConfig:
    """Raises ValueError listing the names when there is no such preset."""
    if name not in PRESETS:
        raise ValueError(f"preset={name}: must be one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
