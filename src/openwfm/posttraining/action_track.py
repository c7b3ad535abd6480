"""Actions that a world is given: from a file, checked against what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.data.members import ActionTrack, read_action
from openwfm.posttraining.action import ActionConfig

KEYS = ("values", "names", "units", "rate")


def given_actions(source: ActionTrack | Path | str, config: ActionConfig) -> Float[Tensor, "s a"]:
    """Of a track, an ``action.npz`` of a shard, or a json with `KEYS`.

    Raises ValueError naming the field that does not fit, what was expected and what came.
    """
    track = source if isinstance(source, ActionTrack) else read_track(Path(source))
    for field in ("names", "units"):
        found, wanted = getattr(track, field), getattr(config, field)
        if found != wanted:
            raise ValueError(
                f"actions.{field}: {len(found)} of them, {', '.join(found)}: must be "
                f"{len(wanted)}: {', '.join(wanted)}"
            )
    if abs(track.rate - config.rate) > 1e-6:
        raise ValueError(f"actions.rate={track.rate}: must be {config.rate} a second")
    if not len(track.values):
        raise ValueError("actions.values: no step: must be one or more")
    return torch.tensor(np.asarray(track.values), dtype=torch.float32)


def read_track(path: Path) -> ActionTrack:
    """Raises ValueError naming the file, and the key that it lacks or that does not fit."""
    if path.suffix not in (".npz", ".json"):
        raise ValueError(f"actions={path}: must be a file .npz or .json with {', '.join(KEYS)}")
    if not path.is_file():
        raise ValueError(f"actions={path}: no such file")
    if path.suffix == ".npz":
        return read_action(path.read_bytes(), str(path))
    try:
        found: Any = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: no json ({error})") from error
    if not isinstance(found, dict) or set(found) != set(KEYS):
        keys = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path}: {keys}: must be an object with {', '.join(KEYS)}")
    try:
        return ActionTrack(
            values=np.array(found["values"], dtype=np.float64),
            names=tuple(map(str, found["names"])),
            units=tuple(map(str, found["units"])),
            rate=float(found["rate"]),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
