"""A world without MuJoCo: pictures from arithmetic, and the accidents film.py must survive."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openwfm.data.members import ActionTrack, CameraTrack
from openwfm.randomness import numpy_generator
from openwfm.simulation.worlds import ClipRejectedError, WorldClip


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """``bad`` clips are rejected; the first time that clip ``dies`` is filmed, its process does."""

    name: str = "toy"
    bad: tuple[int, ...] = ()
    same: tuple[int, ...] = ()
    dies: int | None = None
    marker: str = ""
    views: tuple[str, ...] = ("main",)

    def open(self, seed: int, backend: str) -> ToyWorld:
        return ToyWorld(self, seed)


class ToyWorld:
    def __init__(self, config: ToyConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    def film(self, index: int) -> WorldClip:
        if index in self.config.bad:
            raise ClipRejectedError("unstable", f"clip {index} exploded")
        if index == self.config.dies and not Path(self.config.marker).exists():
            Path(self.config.marker).touch()
            os.kill(os.getpid(), 9)
        draw = numpy_generator(self.seed, "toy", 99 if index in self.config.same else index)
        colours = draw.integers(0, 256, (len(self.config.views), 9, 1, 1, 3))
        frames = np.broadcast_to(colours, (*colours.shape[:2], 32, 48, 3)).astype(np.uint8)
        views = dict(zip(self.config.views, frames, strict=True))
        eye = np.broadcast_to(np.eye(4), (9, 4, 4)).copy()
        return WorldClip(
            views=views,
            fps=12.0,
            captions={view: f"A toy number {index} seen from {view}." for view in views},
            group=index // 2,
            tags=("toy",),
            facts={"index": index},
            cameras={
                view: CameraTrack(intrinsics=eye[:, :3, :3], camera_to_world=eye) for view in views
            },
            action=ActionTrack(
                values=draw.normal(size=(8, 2)), names=("x", "y"), units=("m", "m"), rate=12.0
            ),
            state={"height": draw.normal(size=9)},
            masks={view: frames[0, ..., 0] for view in views},
            mask_names=("background", "thing"),
        )

    def close(self) -> None:
        pass
