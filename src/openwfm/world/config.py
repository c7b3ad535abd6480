"""What ``openwfm generate`` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openwfm.world.long import Chunking


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """None means what the weights say. ``run`` is a run folder or a folder of weights."""

    run: str
    out: str
    frames: str | None = None
    actions: str | None = None
    image: str | None = None
    camera: str | None = None
    prompt: str | None = None
    prompts: tuple[str, ...] | None = None
    trajectory: str | None = None
    num_frames: int | None = None
    seed: int = 0
    guidance: float | None = None
    num_steps: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    fps: float | None = None
    precision: str = "fp32"
    native: bool = False
    keep: int | None = None
    overlap: int | None = None
    condition_sigmas: tuple[float, ...] | None = None
    statistics: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if Path(self.out).suffix != ".mp4":
            raise ValueError(f"out={self.out}: must end in .mp4")
        if self.image is not None:
            if self.frames is not None:
                raise ValueError(f"image={self.image}: must stand without frames")
            object.__setattr__(self, "frames", self.image)
        if self.prompt is not None:
            object.__setattr__(self, "prompt", str(self.prompt))
        if self.prompts is not None:
            if isinstance(self.prompts, str) or self.prompt is not None:
                raise ValueError("prompts: must be a list, and stand without prompt")
            object.__setattr__(self, "prompts", tuple(str(prompt) for prompt in self.prompts))
        for name in ("num_frames", "num_steps", "top_k", "keep"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value}: must be a whole number, at least 1")
        for name in ("guidance", "fps", "temperature", "top_p"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | float):
                raise ValueError(f"{name}={value}: must be a number")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed={self.seed}: must be a whole number")
        _ = self.chunking  # raises for values that do not fit

    @property
    def chunking(self) -> Chunking | None:
        """What is said about chunks; None when nothing is."""
        named = ("overlap", "condition_sigmas", "statistics")
        given = {name: getattr(self, name) for name in named if getattr(self, name) is not None}
        return Chunking(**given) if given else None
