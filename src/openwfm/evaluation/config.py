"""What ``openwfm evaluate`` and ``openwfm report`` are asked for."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """``run`` is a run folder or a folder of weights, of a tokenizer or of a world.

    None means: ``shards``, ``data_seed``, ``kinds`` what the run trained with; ``num_frames`` the
    training length; ``out`` the run's ``evaluation/``; the sampler's values what the weights say.
    ``condition_latents``, ``threshold``, ``guidance`` and ``num_steps`` are for worlds; with
    ``condition_latents`` 0 they film captions from noise, and colour and number are read.
    """

    run: str
    shards: str | tuple[str, ...] | None = None
    split: str = "test"
    num_clips: int = 64
    batch_size: int = 16
    seed: int = 0
    data_seed: int | None = None
    kinds: tuple[str, ...] | None = None
    num_frames: int | None = None
    condition_latents: int = 2
    threshold: float = 0.1
    guidance: float | None = None
    num_steps: int | None = None
    num_examples: int = 6
    out: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split={self.split}: must be one of {', '.join(SPLITS)}")
        for name in ("num_clips", "batch_size", "num_frames", "condition_latents", "num_steps"):
            value, least = getattr(self, name), int(name != "condition_latents")
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(f"{name}={value}: must be a whole number, at least {least}")
        if self.num_examples < 0:
            raise ValueError(f"num_examples={self.num_examples}: must not be negative")
        if self.kinds is not None:
            object.__setattr__(self, "kinds", tuple(self.kinds))


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """``world`` is a folder that ``make world`` filled; ``out`` None is its ``report.html``."""

    world: str
    out: str | None = None
    num_clips: int = 6

    def __post_init__(self) -> None:
        if self.num_clips < 1:
            raise ValueError(f"num_clips={self.num_clips}: must be at least 1")
        if self.out is not None and not self.out.endswith(".html"):
            raise ValueError(f"out={self.out}: must end in .html")
