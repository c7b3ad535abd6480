"""What a driving world can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openwfm.simulation.config import check_one_of, check_picture, check_whole

if TYPE_CHECKING:
    from openwfm.simulation.driving.world import DrivingWorld

BEHAVIOURS = ("straight", "left", "right", "lane_change", "stop")
WEATHERS = ("day", "dusk", "rain", "fog")
FRAME_RATES = (10, 30)
MAX_AGENTS = 16
MAX_SECONDS = 12.0


@dataclass(frozen=True, kw_only=True)
class DrivingConfig:
    """Six views of ``width`` × ``height`` pixels from a car.

    ``fov`` is the horizontal angle of every lens in degrees; below 72 neighbouring views do not
    overlap. ``behaviours`` of the car take turns with the index of the clip; the weather is drawn
    from ``weathers``. There are at most ``max_agents`` other vehicles.
    """

    name: str = field(default="driving", init=False)
    width: int = 80
    height: int = 48
    fov: float = 80.0
    fps: int = 10
    num_frames: int = 33
    supersample: int = 2
    behaviours: tuple[str, ...] = BEHAVIOURS
    weathers: tuple[str, ...] = WEATHERS
    max_agents: int = 12

    def __post_init__(self) -> None:
        check_picture("world", self.width, self.height, self.fps, self.supersample)
        if self.fps not in FRAME_RATES:
            raise ValueError(f"world.fps={self.fps}: must be one of 10, 30")
        if not 72 <= self.fov <= 120:
            raise ValueError(f"world.fov={self.fov}: must be between 72 and 120 degrees")
        check_whole("world.num_frames", self.num_frames, 2, 10_000)
        if self.num_frames > MAX_SECONDS * self.fps:
            raise ValueError(
                f"world.num_frames={self.num_frames}: must last at most {MAX_SECONDS:.0f} s, "
                f"{MAX_SECONDS * self.fps:.0f} frames at {self.fps} fps"
            )
        check_whole("world.max_agents", self.max_agents, 0, MAX_AGENTS)
        for key, allowed in (("behaviours", BEHAVIOURS), ("weathers", WEATHERS)):
            object.__setattr__(self, key, tuple(getattr(self, key)))
            chosen = getattr(self, key)
            if not chosen or len(set(chosen)) != len(chosen):
                raise ValueError(f"world.{key}={chosen}: must be at least one, none of them twice")
            for value in chosen:
                check_one_of(f"world.{key}", value, allowed)

    @property
    def fovy(self) -> float:
        """Vertical angle in degrees: pixels are square."""
        half = math.tan(math.radians(self.fov) / 2) * self.height / self.width
        return math.degrees(2 * math.atan(half))

    def open(self, seed: int, backend: str) -> DrivingWorld:
        from openwfm.simulation.driving.world import DrivingWorld

        return DrivingWorld(self, seed, backend)
