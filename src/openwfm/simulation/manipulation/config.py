"""What a manipulation world can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openwfm.simulation.config import check_one_of, check_picture, check_whole
from openwfm.simulation.manipulation.policies import SKILLS
from openwfm.simulation.manipulation.scene import TASKS

if TYPE_CHECKING:
    from openwfm.simulation.manipulation.world import ManipulationWorld


@dataclass(frozen=True, kw_only=True)
class ManipulationConfig:
    """Episodes of a gripper arm at a table, at 5 frames and actions a second.

    Clip i shows task i modulo the number of tasks; the skills take turns after each round of the
    tasks, so a name that is given twice is seen twice as often. ``cameras`` 1 is the fixed one
    (view ``main``), 2 adds the one on the wrist (view ``wrist``). Captions are what the robot was
    told, then (``full``) what is seen and how it ended; a world that takes instructions is to be
    told no more than the ``instruction``.
    """

    name: str = "manipulation"
    tasks: tuple[str, ...] = TASKS
    skills: tuple[str, ...] = ("expert", "good", "average", "clumsy", "random")
    num_frames: int = 33
    width: int = 64
    height: int = 64
    supersample: int = 2
    cameras: int = 1
    caption: str = "full"

    def __post_init__(self) -> None:
        if self.name != "manipulation":
            raise ValueError(f"world.name={self.name}: must be manipulation")
        for key, allowed in (("tasks", TASKS), ("skills", tuple(SKILLS))):
            values = tuple(getattr(self, key))
            object.__setattr__(self, key, values)
            if not values:
                raise ValueError(f"world.{key}=[]: must name at least one of {', '.join(allowed)}")
            for value in values:
                check_one_of(f"world.{key}", value, allowed)
        check_one_of("world.caption", self.caption, ("full", "instruction"))
        check_whole("world.num_frames", self.num_frames, 2, 1000)
        check_whole("world.cameras", self.cameras, 1, 2)
        check_picture("world", self.width, self.height, 5, self.supersample)

    def open(self, seed: int, backend: str) -> ManipulationWorld:
        from openwfm.simulation.manipulation.world import ManipulationWorld

        return ManipulationWorld(self, seed, backend)
