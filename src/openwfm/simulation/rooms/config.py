"""What decides the pictures of the rooms, but the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openwfm.simulation.config import check_one_of, check_picture, check_whole

if TYPE_CHECKING:
    from openwfm.simulation.rooms.world import RoomsWorld

KINDS = ("living room", "dining room", "study", "bedroom", "courtyard", "garden")
MOTIONS = ("orbit", "dolly", "truck", "pan", "tilt", "walk")


@dataclass(frozen=True, kw_only=True)
class RoomsConfig:
    """Static rooms and courts, filmed by a camera that moves.

    ``fovy`` is the range of vertical angles in degrees, one drawn for each clip; ``kinds`` and
    ``motions`` are drawn with equal chances. ``clips_per_room`` clips in a row show the same room
    along different paths, as one group.
    """

    width: int = 128
    height: int = 96
    fps: float = 24.0
    num_frames: int = 57
    supersample: int = 2
    fovy: tuple[float, float] = (50.0, 68.0)
    kinds: tuple[str, ...] = KINDS
    motions: tuple[str, ...] = MOTIONS
    clips_per_room: int = 1

    def __post_init__(self) -> None:
        for name in ("fovy", "kinds", "motions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_picture("world", self.width, self.height, self.fps, self.supersample)
        check_whole("world.num_frames", self.num_frames, 2, 4096)
        check_whole("world.clips_per_room", self.clips_per_room, 1, 4096)
        if len(self.fovy) != 2 or not 20 <= self.fovy[0] <= self.fovy[1] <= 100:
            raise ValueError(
                f"world.fovy={list(self.fovy)}: must be two angles, the smaller first, from 20 to "
                "100 degrees"
            )
        for name, values, allowed in (
            ("kinds", self.kinds, KINDS),
            ("motions", self.motions, MOTIONS),
        ):
            if not values:
                raise ValueError(f"world.{name}=[]: must name at least one")
            for value in values:
                check_one_of(f"world.{name}", value, allowed)

    @property
    def name(self) -> str:
        return "rooms"

    def open(self, seed: int, backend: str) -> RoomsWorld:
        from openwfm.simulation.rooms.world import RoomsWorld

        return RoomsWorld(self, seed, backend)
