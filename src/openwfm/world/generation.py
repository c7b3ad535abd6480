"""What is asked of a world, what comes back, and what a world was trained for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from openwfm.shapes import Temporal
from openwfm.video import to_uint8, write_video
from openwfm.world.long import Chunking

Provenance = dict[str, Any]
TOKEN_SAMPLING = ("temperature", "top_k", "top_p")  # fields of `Sampling` for autoregression


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A generated video ``c t h w`` in [-1, 1] and what made it.

    The first ``provenance["condition"]["frames"]`` frames are the given ones, not generated.
    ``guardrails`` is None: no guardrail has looked at it.
    """

    video: Float[Tensor, "c t h w"]
    fps: float
    provenance: Provenance
    guardrails: None = None

    def save(self, path: Path | str) -> None:
        """An mp4 that carries its provenance (`openwfm.video.read_provenance`)."""
        write_video(path, to_uint8(self.video), self.fps, self.provenance)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Overrides of how a world samples; None keeps what its weights say.

    The first two and the last are for diffusion, the others for autoregression.
    """

    guidance: float | None = None
    num_steps: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    chunking: Chunking | None = None

    def __post_init__(self) -> None:
        if self.guidance is not None and self.guidance < 0:
            raise ValueError(f"guidance={self.guidance}: must not be negative (0 is off)")
        if self.num_steps is not None and self.num_steps < 1:
            raise ValueError(f"num_steps={self.num_steps}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class WorldFacts:
    """What a world was trained for. ``size``, ``num_frames`` and ``fps`` are None where
    the weights do not say.
    ``max_condition`` counts latent frames; ``size`` is rows, columns.
    """

    temporal: Temporal
    max_condition: int
    needs_frames: bool
    weights_sha256: dict[str, str]
    size: tuple[int, int] | None = None
    num_frames: int | None = None
    fps: float | None = None
    reads_text: bool = True
