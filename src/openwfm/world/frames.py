"""From frames that a user has to frames that a model takes."""

from __future__ import annotations

from openwfm.shapes import Temporal


def condition_latents(
    available: int, *, num_frames: int, max_latents: int, temporal: Temporal
) -> int:
    """How many latent frames the last of ``available`` pixel frames fill: as many as fit.

    n latents stand for 1 + ratio·(n - 1) frames. At least one latent frame is left to generate.
    Raises ValueError when nothing fits.
    """
    total = int(temporal.latent_frames(num_frames))
    limit = min(max_latents, total - 1)
    if max_latents < 1:
        raise ValueError("frames: this world takes none (conditioner.max_frames=0)")
    if limit < 1:
        raise ValueError(
            f"num_frames={num_frames}: nothing is left to generate after a condition frame; "
            f"must be at least {int(temporal.frames(2))}"
        )
    if available < 1:
        raise ValueError("frames: holds 0 frames; must hold at least 1")
    fitting = 1 + (available - 1) // temporal.ratio
    return min(limit, fitting)
