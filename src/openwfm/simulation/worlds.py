"""What a simulated world is: a config that opens it, and clips that it films, each from an index.

The families (`openwfm.simulation.physics`, `rooms`, `manipulation`, `driving`) know this file, the
lens and the renderer; `openwfm.simulation.film` knows this file alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from openwfm.data.members import ActionTrack, CameraTrack

if TYPE_CHECKING:
    import mujoco

# mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC
_BAD_STATE = (3, 4, 5)
MAX_SPEED = 200.0  # metres or radians a second: beyond it a simulation has exploded


class ClipRejectedError(ValueError):
    """A clip that must not be used: ``reason`` is one word for counting, ``detail`` says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """An exception of two arguments, across processes."""
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldClip:
    """What a world filmed, with its truth. Everything but video and captions is optional.

    ``views`` uint8 ``t h w c`` by name (a single view is called ``main``); ``captions`` by view, or
    ``main`` alone; ``group`` clips of one group show the same scene and are never split between
    train and test. ``state`` are named arrays over frames; ``masks`` uint8 ``t h w`` by view, whose
    values index ``mask_names`` (0 is the background); ``depth`` float16 ``t h w`` metres by view.
    ``facts`` are JSON values: parameters, scenario, instruction, success.
    """

    views: Mapping[str, np.ndarray]
    fps: float
    captions: Mapping[str, str]
    group: int
    tags: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    cameras: Mapping[str, CameraTrack] = field(default_factory=dict)
    action: ActionTrack | None = None
    trajectory: np.ndarray | None = None
    state: Mapping[str, np.ndarray] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    mask_names: tuple[str, ...] = ()
    depth: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: video.shape for name, video in self.views.items()}
        if len({shape[0] for shape in shapes.values()}) != 1:
            raise ValueError(f"views: {shapes}: must be at least one, of equal length")
        for name, per_view in (("captions", self.captions), ("cameras", self.cameras)):
            if not set(per_view) <= set(self.views) | {"main"}:
                raise ValueError(f"{name}: {sorted(per_view)}: must be among {sorted(self.views)}")
        for name, images in (("masks", self.masks), ("depth", self.depth)):
            for view, image in images.items():
                if view not in self.views or image.shape != shapes[view][:3]:
                    raise ValueError(f"{name}.{view}: {image.shape}: must be as views {shapes}")
        for name, track in self.cameras.items():
            if len(track.intrinsics) != self.num_frames:
                raise ValueError(f"cameras.{name}: must have {self.num_frames} frames")

    @property
    def num_frames(self) -> int:
        return len(next(iter(self.views.values())))

    @property
    def caption(self) -> str:
        return self.captions.get("main") or next(iter(self.captions.values()))


class World(Protocol):
    """An open world, in one process. Clip ``index`` is a function of (config, seed, index) alone,
    not of what was filmed before."""

    def film(self, index: int) -> WorldClip:
        """Raises ClipRejectedError when the simulation went wrong or shows what it must not."""
        ...

    def close(self) -> None: ...


class WorldConfig(Protocol):
    """A frozen dataclass with everything that decides the pictures, but the seed."""

    @property
    def name(self) -> str: ...

    def open(self, seed: int, backend: str) -> World: ...


def check_stable(data: mujoco.MjData) -> None:
    """Raises ClipRejectedError when the state holds a NaN, or a speed that nothing here can have.

    MuJoCo resets the state by itself after a NaN, and counts that as a warning.
    """
    warnings = [data.warning[kind].number for kind in _BAD_STATE]
    finite = np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all()
    if sum(warnings) or not finite:
        raise ClipRejectedError("unstable", f"the state is not finite after {data.time:.3f} s")
    speed = float(np.abs(data.qvel).max(initial=0.0))
    if speed > MAX_SPEED:
        raise ClipRejectedError(
            "unstable", f"a speed of {speed:.0f} (m/s or rad/s) after {data.time:.3f} s"
        )
