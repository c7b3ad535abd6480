"""Truth beside the frames of a window: camera, actions and trajectory, as tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from openwfm.data.members import read_action, read_camera, read_trajectory
from openwfm.data.shardset import ShardSet
from openwfm.data.windows import Window


def read_truths(index: ShardSet, key: str, truths: Sequence[str]) -> dict[str, Tensor]:
    """Of a whole clip. Raises ValueError naming the clip when it lacks one, when it has several
    cameras, or when its actions are not one a frame."""
    found: dict[str, Tensor] = {}
    members, facts = index.members(key), index.metadata(key)
    for name in truths:
        if f"{name}.npz" not in members:
            raise ValueError(f"clip {key}: has no {name}.npz, which data.truths={name} asks for")
    if "camera" in truths:
        tracks = read_camera(index.read(key, "camera.npz"))
        if len(tracks) != 1:
            raise ValueError(f"clip {key}: has {len(tracks)} cameras: must be one")
        track = next(iter(tracks.values()))
        found["intrinsics"] = _tensor(track.intrinsics)
        found["camera_to_world"] = _tensor(track.camera_to_world)
    if "action" in truths:
        action = read_action(index.read(key, "action.npz"))
        if abs(action.rate - float(facts["fps"])) > 1e-6:
            raise ValueError(
                f"clip {key}: actions at {action.rate} a second: must be at the frames' "
                f"{facts['fps']}"
            )
        found["action"] = _tensor(action.values)
    if "trajectory" in truths:
        found["trajectory"] = _tensor(read_trajectory(index.read(key, "trajectory.npz")))
    return found


def cut_truths(truths: Mapping[str, Tensor], window: Window) -> dict[str, Tensor]:
    """Of a window: cameras of its frames, the actions between them, and the trajectory ahead of
    its first frame. Raises ValueError when the clip has fewer."""
    cut: dict[str, Tensor] = {}
    for name, values in truths.items():
        if name == "trajectory":
            if window.start:
                raise ValueError(
                    f"clip {window.key}: its trajectory starts at frame 0: a window that starts at "
                    f"{window.start} has none; set data.window_stride to the length of the clips"
                )
            cut[name] = values
            continue
        count = window.num_frames - (name == "action")
        cut[name] = values[window.start : window.start + count]
        if len(cut[name]) != count:
            raise ValueError(
                f"clip {window.key}: {len(values)} of {name}: too few for frames "
                f"{window.start} to {window.start + window.num_frames - 1}"
            )
    return cut


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
