"""Where a car is to drive, through the ``modulation`` port (arXiv 2501.03575, section 6.3).

64 points ahead, 0.1 s apart, in the car's frame at the first frame of the clip. The released code
projects all 192 numbers to channels that are the same everywhere; a modulation is the same
everywhere too, and reaches every block. It starts at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openwfm.data.members import TRAJECTORY_POINTS, TRAJECTORY_STEP
from openwfm.diffusion.control import Control, Controls, Grid, Ports
from openwfm.weights import read_fields

# Release order; the grid is [left, front, right] above [back left, back, back right].
VIEWS = ("front", "front_left", "front_right", "rear", "rear_left", "rear_right")
GRID = (("front_left", "front", "front_right"), ("rear_left", "rear", "rear_right"))
MAX_SPEED = 60.0  # m/s; steps beyond it are not metres 0.1 s apart


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfig:
    """``scale`` divides the steps from point to point, in metres (forward, left, up).

    ``dropout`` is the share of training samples that see none, for guidance of its own
    (``sampler.control_guidance``).
    """

    scale: tuple[float, float, float] = (0.5, 0.2, 0.2)
    hidden: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(float(value) for value in self.scale))
        if len(self.scale) != 3 or not min(self.scale) > 0:
            raise ValueError(f"control.scale={self.scale}: must be three positive numbers")
        if self.hidden < 1:
            raise ValueError(f"control.hidden={self.hidden}: must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"control.dropout={self.dropout}: must be in [0, 1)")

    def build(self, width: int) -> TrajectoryControl:
        return TrajectoryControl(self, width)


class TrajectoryControl(Control):
    """One modulation for all views and frames."""

    kind: ClassVar[str] = "trajectory"
    config: TrajectoryConfig

    def __init__(self, config: TrajectoryConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("scale", torch.tensor(config.scale), persistent=False)
        self.scale: Tensor
        last = nn.Linear(config.hidden, 4 * width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        first = nn.Linear(3 * TRAJECTORY_POINTS, config.hidden)
        self.embedding = nn.Sequential(first, nn.GELU(approximate="tanh"), last)

    @classmethod
    def read(cls, values: Mapping[str, Any], width: int, source: str) -> TrajectoryControl:
        return read_fields(TrajectoryConfig, values, source).build(width)

    def forward(self, controls: Controls, grid: Grid) -> Ports:
        points = checked_trajectory(controls.trajectory)
        steps = points.diff(dim=1, prepend=torch.zeros_like(points[:, :1]))
        return Ports(modulation=self.embedding((steps / self.scale).flatten(1)))


def checked_trajectory(points: Tensor | None) -> Float[Tensor, "b 64 3"]:
    """Raises ValueError for one that is missing, of another length, not finite, or in a frame that
    cannot be the car's at the first frame: x forward, y left, z up, metres, from the origin."""
    if points is None:
        raise ValueError("trajectory: missing: this world follows one")
    if points.ndim != 3 or tuple(points.shape[1:]) != (TRAJECTORY_POINTS, 3):
        raise ValueError(
            f"trajectory: shape {tuple(points.shape)}: must be (batch, {TRAJECTORY_POINTS}, 3): "
            f"points {TRAJECTORY_STEP} s apart, the first one step ahead"
        )
    if not bool(torch.isfinite(points).all()):
        raise ValueError("trajectory: must be finite")
    points = points.float()
    steps = points.diff(dim=1, prepend=torch.zeros_like(points[:, :1]))
    longest = steps.norm(dim=2).amax(dim=1)
    wrong = "must be in the car's frame at the first frame (x forward, y left, z up, metres)"
    first = float(points[:, 0].norm(dim=1).amax())
    if first > MAX_SPEED * TRAJECTORY_STEP:
        raise ValueError(f"trajectory: its first point is {first:.1f} m away after 0.1 s: {wrong}")
    if float(longest.amax()) > MAX_SPEED * TRAJECTORY_STEP:
        raise ValueError(f"trajectory: a step of {float(longest.amax()):.1f} m in 0.1 s: {wrong}")
    if bool((points[..., 2].abs().amax(1) > 0.5 * points[..., :2].norm(dim=2).amax(1) + 1).any()):
        raise ValueError(f"trajectory: it climbs or dives: {wrong}; z is up here, not forward")
    # A car cannot start sideways: its first second leads ahead (or back), not to the side.
    second = points[:, round(1 / TRAJECTORY_STEP) - 1]
    if bool((second[:, 1].abs() > second[:, 0].abs() + 1.0).any()):
        raise ValueError(f"trajectory: it starts sideways: {wrong}; y is left here, not forward")
    return points
