"""Shards with actions into a LeRobot dataset (v2.1 or v3.0) that the lerobot packages open.

Videos are copied byte for byte, one file for each episode and camera, which v3.0 allows too: a clip
that comes back has the id it had. Columns are ``action`` and the arrays of ``state.npz`` that have
an entry for each frame; what LeRobot has no place for is named in the summary, and the captions,
tags, facts, source and units of a clip are kept in a column of ours (``openwfm``) of its episode.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from openwfm.data.importers.lerobot import ACTION, KEPT_IN_NOTE, LAST_ACTION
from openwfm.data.importers.lerobot_files import DatasetWriter, EpisodeData
from openwfm.data.importers.lerobot_layout import PLACE, VERSIONS
from openwfm.data.members import ActionTrack, read_action, read_npz
from openwfm.data.shards import ShardIndex
from openwfm.data.windows import decode_clip


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """``left_out`` are members and arrays that LeRobot has no place for."""

    num_episodes: int
    num_frames: int
    left_out: tuple[str, ...]


def export_lerobot(
    shards: Path | str, out: Path | str, *, version: str = "v3.0", robot_type: str = "unknown"
) -> ExportSummary:
    """Write the dataset; ``out`` is whole or absent.

    Where a clip does not say what its last command was (`import_lerobot` keeps it as
    ``last_action``), the one before is repeated and marked. Raises ValueError naming the clip that
    has no action, or whose frame rate, cameras or columns are not those of the first.
    """
    if version not in VERSIONS:
        raise ValueError(f"version={version}: must be one of {', '.join(VERSIONS)}")
    index, out = ShardIndex.open(shards), Path(out)
    if out.exists():
        raise ValueError(f"out={out}: exists; choose another folder or remove it")
    if not len(index):
        raise ValueError(f"{shards}: holds no clips")
    rows = index.manifest().to_pylist()
    keys = [row["id"] for row in rows if row["status"] == "kept"]
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    left_out: set[str] = set()
    common = _common_arrays(index, keys)
    writer = DatasetWriter(partial, version, robot_type)
    try:
        for key in tqdm(keys, desc="exporting", unit="episode"):
            writer.add(_episode(index, key, common, left_out))
        writer.finish()
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ExportSummary(
        num_episodes=len(keys), num_frames=writer.num_frames, left_out=tuple(sorted(left_out))
    )


def _common_arrays(index: ShardIndex, keys: Sequence[str]) -> set[str]:
    """Names in ``state.npz`` that every clip has with one dtype and one shape a frame: a LeRobot
    dataset has one set of columns. (An array of objects has as many rows as there are objects.)"""
    shapes: dict[str, set[object]] = {}
    for key in keys:
        has = "state.npz" in index.members(key)
        state = read_npz(index.read(key, "state.npz"), key) if has else {}
        for name in set(shapes) | set(state):
            array = state.get(name)
            form = None if array is None else (str(array.dtype), array.shape[1:])
            shapes.setdefault(name, set()).add(form)
    # A name that an earlier clip lacked has been seen fewer times than there are clips.
    first = index.read(keys[0], "state.npz") if "state.npz" in index.members(keys[0]) else None
    known = set(read_npz(first, keys[0])) if first is not None else set()
    return {name for name, forms in shapes.items() if len(forms) == 1 and name in known}


def _episode(index: ShardIndex, key: str, common: set[str], left_out: set[str]) -> EpisodeData:
    members, facts = index.members(key), index.metadata(key)
    if "action.npz" not in members:
        raise ValueError(f"clip {key}: has no action.npz; LeRobot datasets are of actions")
    videos = dict(_videos(index, key, facts))
    num_frames = {len(frames) for _, frames in videos.values()}
    if num_frames != {facts["num_frames"]}:
        raise ValueError(f"clip {key}: {num_frames} frames, but {facts['num_frames']} in its json")
    length = facts["num_frames"]
    state = read_npz(index.read(key, "state.npz"), key) if "state.npz" in members else {}
    track = read_action(index.read(key, "action.npz"), f"clip {key}: action.npz")
    action, repeated = _commands(key, track, length, facts["fps"], state.pop(LAST_ACTION, None))
    tasks, task_of_frame = _tasks(facts, state.pop("task_index", None), length)
    kept = {
        name: array
        for name, array in state.items()
        if name in common and _fits(name, array, length)
    }
    left_out |= {f"state.npz: {name}" for name in set(state) - set(kept)}
    known = ("action.npz", "state.npz", "json", "text.npy")
    left_out |= {name for name in members if name not in known and not name.endswith("mp4")}
    note = {name: facts[name] for name in KEPT_IN_NOTE if name in facts}
    note |= {"views": facts["views"], "units": track.units, "last_action_repeated": repeated}
    return EpisodeData(
        clip=key, fps=float(facts["fps"]), columns={ACTION: action, **kept},
        action_names=track.names, videos=videos, tasks=tasks, task_of_frame=task_of_frame,
        note=json.dumps(note, sort_keys=True, ensure_ascii=False),
    )  # fmt: skip


def _videos(
    index: ShardIndex, key: str, facts: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[bytes, np.ndarray]]]:
    """Bytes and frames by camera key. Raises ValueError for what LeRobot readers may not take."""
    cameras = facts.get("facts", {}).get("cameras", {})
    for view in facts["views"]:
        data = index.read(key, "mp4" if view == "main" else f"{view}.mp4")
        frames = decode_clip(data, key)
        with av.open(io.BytesIO(data), "r") as container:
            codec = container.streams.video[0].codec_context.name
        if codec != "h264":
            raise ValueError(f"clip {key}: its video is {codec}; must be h264")
        yield str(cameras.get(view, f"observation.images.{view}")), (data, frames)


def _commands(
    key: str, track: ActionTrack, length: int, fps: float, last: np.ndarray | None
) -> tuple[np.ndarray, bool]:
    """A row for each frame, and whether the last one is a repetition."""
    values = track.values
    if track.rate != fps:
        raise ValueError(f"clip {key}: action.rate={track.rate:g}: must be its fps, {fps:g}")
    if last is not None and len(values) == length - 1:
        return np.concatenate([values, last]), False
    if len(values) not in (length - 1, length) or not len(values):
        raise ValueError(
            f"clip {key}: {len(values)} actions of {length} frames; must be {length - 1} or "
            f"{length}, at least one"
        )
    if len(values) == length:
        return values, False
    return np.concatenate([values, values[-1:]]), True


def _tasks(
    facts: Mapping[str, Any], of_frame: np.ndarray | None, length: int
) -> tuple[list[str], np.ndarray]:
    """The sentences of a clip, and which one holds at each frame."""
    more = facts.get("facts", {})
    tasks = more.get("tasks") or [more.get("instruction") or facts.get("caption", "")]
    if of_frame is None or len(tasks) == 1:
        return tasks[:1], np.zeros(length, np.int64)
    return tasks, of_frame.astype(np.int64)


def _fits(name: str, array: np.ndarray, length: int) -> bool:
    """LeRobot forbids slashes in names, and knows tables of numbers and texts alone."""
    plain = array.dtype.kind in "biufU" and 1 <= array.ndim <= 6
    return plain and len(array) == length and "/" not in name and name not in (*PLACE, ACTION)
