"""From frames that a user has to frames that a model takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from openwfm.data.images import ENDINGS
from openwfm.files import sha256_file
from openwfm.shapes import Temporal
from openwfm.video import fit_size, from_uint8, read_video

if TYPE_CHECKING:
    from openwfm.world.generation import WorldFacts


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


def condition_pixels(
    frames: Float[Tensor, "c n h w"] | Path | str | None, num_frames: int, facts: WorldFacts
) -> tuple[Float[Tensor, "c n h w"] | None, dict[str, Any]]:
    """The frames a world is given, of a size and number it takes, and where they come from.

    ``frames`` are pixels in [-1, 1], a video file or a picture. The second result holds the video
    file's ``fps``. Raises ValueError naming what does not fit.
    """
    if frames is None:
        if facts.needs_frames:
            raise ValueError(
                "frames: missing: this world continues frames, it was never trained without them"
            )
        return None, {"frames": 0}
    source: dict[str, Any] = {}
    longest = int(facts.temporal.frames(max(1, facts.max_condition)))
    if isinstance(frames, Tensor):
        video = frames
        check_pixels(video)
    else:
        pixels, rate = read_video(frames, last=longest)
        video = from_uint8(pixels)
        if Path(frames).suffix.lower() not in ENDINGS:  # a picture has no rate of its own
            source["fps"] = rate
        source |= {"file": Path(frames).name, "file_sha256": sha256_file(frames)}
    count = condition_latents(
        video.shape[1],
        num_frames=num_frames,
        max_latents=facts.max_condition,
        temporal=facts.temporal,
    )
    video = video[:, -int(facts.temporal.frames(count)) :].float()
    if facts.size is not None and tuple(video.shape[-2:]) != facts.size:
        source["resized_from"] = list(video.shape[-2:])
        video = fit_size(video, facts.size)
    return video, source | {"frames": video.shape[1], "latent_frames": count}


def check_beginnings(frames: Tensor, facts: WorldFacts) -> None:
    """Raises ValueError unless ``frames`` are pixels ``b 3 n h w`` of the size of training."""
    if frames.ndim != 5:
        raise ValueError(
            f"frames: shape {tuple(frames.shape)}: must be (batch, 3, frames, rows, columns)"
        )
    for video in frames:
        check_pixels(video)
    if not frames.shape[2]:
        raise ValueError("frames: 0 frames: must be at least 1")
    if facts.size is not None and tuple(frames.shape[-2:]) != facts.size:
        raise ValueError(
            f"frames: {frames.shape[-2]} rows, {frames.shape[-1]} columns: must be {facts.size}, "
            "those of training (use beginning)"
        )


def check_pixels(video: Tensor) -> None:
    """Raises ValueError unless ``video`` is float ``3 t h w`` in [-1, 1]."""
    if video.ndim != 4 or video.shape[0] != 3:
        raise ValueError(f"frames: shape {tuple(video.shape)}: must be (3, frames, rows, columns)")
    if not video.is_floating_point():
        raise ValueError(f"frames: {video.dtype}: must be float in [-1, 1]")
    if video.numel() and not bool((video.abs() <= 1.0 + 1e-4).all()):
        raise ValueError("frames: must be finite and in [-1, 1]")
