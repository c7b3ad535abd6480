"""What decides the clips of the physics world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openwfm.simulation.config import check_one_of, check_picture, check_whole

if TYPE_CHECKING:
    from openwfm.simulation.physics.world import PhysicsWorld

SCENARIOS = (
    "free_fall", "tilted_plane", "u_ramp", "stable_stack", "unstable_stack", "dominoes", "seesaw",
    "gyroscope",
)  # fmt: skip
CONTROLS = ("none", "reversed", "frozen", "shuffled")
_WITHOUT_WHEEL = tuple(name for name in SCENARIOS if name != "gyroscope")
# The scenarios in which changing a property means something.
COUNTERFACTUALS: dict[str, tuple[str, ...]] = {
    "none": SCENARIOS,
    "gravity": SCENARIOS,
    "mass": SCENARIOS,
    "size": SCENARIOS,
    "colour": SCENARIOS,
    "friction": _WITHOUT_WHEEL,
    "bounce": _WITHOUT_WHEEL,
    "position": _WITHOUT_WHEEL,
    "spin": ("free_fall", "gyroscope"),
}
MAX_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class PhysicsConfig:
    """Clip i shows ``scenarios[i % len]`` (pair i // 2 instead, when there is a counterfactual).

    ``cameras`` is 1 (view ``main``) or 4 (``front``, ``left``, ``back``, ``right``). With a
    ``counterfactual``, clips 2k and 2k + 1 are one scene, and the second has that one property of
    one body (or of the world) changed. ``control`` plays clips backwards, holds their first frame,
    or shuffles them.
    """

    scenarios: tuple[str, ...] = SCENARIOS
    num_frames: int = 49
    fps: int = 24
    width: int = 64
    height: int = 64
    supersample: int = 2
    cameras: int = 1
    counterfactual: str = "none"
    control: str = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scenarios", tuple(self.scenarios))
        if not self.scenarios:
            raise ValueError("world.scenarios=(): must name at least one scenario")
        for scenario in self.scenarios:
            check_one_of("world.scenarios", scenario, SCENARIOS)
        check_picture("world", self.width, self.height, self.fps, self.supersample)
        check_whole("world.fps", self.fps, 5, 120)
        check_whole("world.num_frames", self.num_frames, 2, 2000)
        if self.num_frames > MAX_SECONDS * self.fps:
            raise ValueError(
                f"world.num_frames={self.num_frames}: must be at most {MAX_SECONDS:g} seconds, "
                f"{int(MAX_SECONDS * self.fps)} at fps={self.fps}"
            )
        if self.cameras not in (1, 4):
            raise ValueError(f"world.cameras={self.cameras}: must be 1 or 4")
        check_one_of("world.control", self.control, CONTROLS)
        check_one_of("world.counterfactual", self.counterfactual, tuple(COUNTERFACTUALS))
        unfit = sorted(set(self.scenarios) - set(COUNTERFACTUALS[self.counterfactual]))
        if unfit:
            raise ValueError(
                f"world.counterfactual={self.counterfactual}: changes nothing in "
                f"{', '.join(unfit)}; world.scenarios must be among "
                f"{', '.join(COUNTERFACTUALS[self.counterfactual])}"
            )

    @property
    def name(self) -> str:
        return "physics"

    def open(self, seed: int, backend: str) -> PhysicsWorld:
        from openwfm.simulation.physics.world import PhysicsWorld

        return PhysicsWorld(self, seed, backend)
