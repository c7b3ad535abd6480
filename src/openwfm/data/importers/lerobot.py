"""A LeRobot dataset (v2.1 or v3.0, a local folder) into shards: one sample for each episode.

Step i of our ``action.npz`` leads from frame i to frame i+1. LeRobot stores a command for each
frame, the last one too, which nothing follows: of ``t`` rows the first ``t - 1`` become the action
and the last is ``last_action`` in ``state.npz``, beside every other column (``observation.state``,
``next.reward``, …; ``t …``, as it was). Nothing here needs the lerobot packages.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from openwfm.data.importers.lerobot_episode import (
    EpisodeRejectedError,
    View,
    read_rows,
    read_view,
)
from openwfm.data.importers.lerobot_layout import (
    PLACE,
    Dataset,
    Episode,
    column_values,
    open_dataset,
)
from openwfm.data.manifest import COLUMNS
from openwfm.data.members import ActionTrack, action_bytes, npz_bytes
from openwfm.data.shards import INDEX, ShardWriter, bucket

ACTION, LAST_ACTION = "action", "last_action"
KIND = "robot"
MAX_SHARD_BYTES = 64_000_000
MANIFEST_SCHEMA = pa.schema([*COLUMNS, ("facts", pa.string())])
# What a sample that was exported from shards gets back from its note.
KEPT_IN_NOTE = {
    "kind": str, "world": str, "source": str, "caption": str, "caption_source": str,
    "captions": list, "tags": list, "scores": dict, "facts": dict,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImportSummary:
    """``num_kept`` + ``num_rejected`` = ``num_episodes``; ``reasons`` counts the rejections."""

    num_episodes: int
    num_kept: int
    num_rejected: int
    num_frames: int
    reasons: Mapping[str, int]


def import_lerobot(
    folder: Path | str,
    out: Path | str,
    *,
    cameras: Sequence[str] | None = None,
    action: str = ACTION,
    max_episodes: int | None = None,
    max_samples: int = 512,
    embed: Callable[[str], np.ndarray] | None = None,
    text_encoder: str = "",
) -> ImportSummary:
    """Write the shards of a dataset; every episode is kept, or rejected with a reason.

    ``cameras`` are keys (``observation.images.top``) or their last parts, null all of them;
    ``action`` is the column of commands; ``embed`` makes the token embeddings ``n d`` of a caption
    with the encoder called ``text_encoder``. One episode is in memory at a time. Raises ValueError
    when the folder is no dataset that can be read, lacks a camera or the action, or when ``out``
    holds finished shards.
    """
    dataset = open_dataset(folder)
    out = Path(out)
    _check_out(dataset.root, out)
    if max_episodes is not None and max_episodes < 1:
        raise ValueError(f"max_episodes={max_episodes}: must be at least 1, or null for all")
    chosen = choose_cameras(dataset, cameras)
    if action not in dataset.features or dataset.features[action].is_picture:
        columns = [k for k, f in dataset.features.items() if not f.is_picture and k not in PLACE]
        raise ValueError(f"action={action}: no such column; there are {', '.join(columns)}")
    episodes = dataset.episodes[:max_episodes]
    writer = ShardWriter(out, max_samples=max_samples, max_bytes=MAX_SHARD_BYTES)
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for episode in tqdm(episodes, desc="importing", unit="episode"):
        path = f"{dataset.root.name}/{episode.index:06d}"
        row = {"record": "clip", "id": f"lerobot-{episode.index:06d}", "path": path, "kind": KIND}
        try:
            members, facts = _sample(dataset, episode, chosen, action)
            if facts["id"] in seen:
                twin = seen[facts["id"]]
                raise EpisodeRejectedError("duplicate", f"shows the same as episode {twin}")
        except EpisodeRejectedError as error:
            rejection = {"status": "rejected", "stage": "import", "reason": error.reason}
            rows.append(row | rejection | {"detail": error.detail})
            continue
        seen[facts["id"]] = episode.index
        if embed is not None and facts["caption"]:
            facts["text_encoder"] = text_encoder
            members["text.npy"] = _npy(embed(facts["caption"]).astype(np.float16))
        members["json"] = _json(facts)
        seconds = facts["num_frames"] / facts["fps"]
        folder_name = bucket(facts["width"], facts["height"], seconds)
        writer.add(folder_name, facts["id"], facts["source"], members)
        shared = {name: facts[name] for name, _ in COLUMNS if name in facts}
        rows.append(row | shared | {"status": "kept", "facts": _json(facts["facts"]).decode()})
    writer.finish(pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
    return _summary(rows)


def _check_out(root: Path, out: Path) -> None:
    source, target = root.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise ValueError(f"out={out}: must lie outside {root}, and not contain it")
    if (out / INDEX).is_file():
        raise ValueError(f"out={out}: holds finished shards; choose another folder or remove it")


def _summary(rows: list[dict[str, Any]]) -> ImportSummary:
    reasons: dict[str, int] = {}
    for row in rows:
        if row["status"] == "rejected":
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    num_rejected = sum(reasons.values())
    return ImportSummary(
        num_episodes=len(rows),
        num_kept=len(rows) - num_rejected,
        num_rejected=num_rejected,
        num_frames=sum(row.get("num_frames", 0) for row in rows),
        reasons=dict(sorted(reasons.items())),
    )


def choose_cameras(dataset: Dataset, wanted: Sequence[str] | None) -> dict[str, str]:
    """Camera keys by the name of their view: ``main`` for a single one, else the key's last part.

    Raises ValueError for a camera that is not there, or when there is none.
    """
    keys = dataset.cameras
    short = {key: _view_name(key) for key in keys}
    if len(set(short.values())) < len(keys):
        short = {key: key.replace(".", "_") for key in keys}
    if wanted is not None:
        for name in wanted:
            if name not in keys and name not in short.values():
                raise ValueError(f"cameras: {name}: no such camera; there are {', '.join(keys)}")
        keys = [key for key in keys if key in wanted or short[key] in wanted]
    if not keys:
        raise ValueError(f"{dataset.root}: no camera (of {len(dataset.cameras)} in the dataset)")
    if len(keys) == 1:
        return {"main": keys[0]}
    return {short[key]: key for key in keys}


def _view_name(key: str) -> str:
    for prefix in ("observation.images.", "observation."):
        if key.startswith(prefix):
            return key.removeprefix(prefix).replace(".", "_")
    return key.replace(".", "_")


def _sample(
    dataset: Dataset, episode: Episode, cameras: Mapping[str, str], action: str
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Members but for text and json, and the facts that become the json."""
    rows = read_rows(dataset, episode, list(cameras.values()))
    note = _read_note(episode.note)
    tasks, task_of_frame = _tasks(dataset, episode, rows)
    try:
        track, state = _columns(dataset, rows, action, note)
    except (KeyError, ValueError) as error:
        raise EpisodeRejectedError("columns", str(error)) from error
    if len(tasks) > 1:
        state["task_index"] = task_of_frame
    views = {view: read_view(dataset, episode, key, rows) for view, key in cameras.items()}
    single = set(views) == {"main"}
    videos = {"mp4" if single else f"{view}.mp4": shown.data for view, shown in views.items()}
    members = {**videos, "action.npz": action_bytes(track)}
    if state:
        members["state.npz"] = npz_bytes(state)
    facts = _facts(dataset, episode, views, tasks)
    # The same hash as of a simulated clip: of the videos, by the names of their members.
    key = hashlib.sha256(b"".join(videos[name] for name in sorted(videos))).hexdigest()[:24]
    if note:
        facts |= {name: note[name] for name in KEPT_IN_NOTE if name in note}
        facts["captions"] = [c for c in facts["captions"] if c.get("view") in (*views, "main")]
    else:
        facts["facts"]["cameras"] = dict(cameras)
    return members, facts | {"id": key, "text_encoder": ""}


def _columns(
    dataset: Dataset, rows: pa.Table, action: str, note: Mapping[str, Any]
) -> tuple[ActionTrack, dict[str, np.ndarray]]:
    """Raises ValueError for values that are no numbers, or not finite."""
    values = column_values(rows, action, dataset.features[action].shape).reshape(len(rows), -1)
    width = values.shape[1]
    names = dataset.features[action].names
    if len(names) != width:
        names = tuple(f"{action}_{i}" for i in range(width))
    units = tuple(note.get("units", ())) or ("",) * width
    track = ActionTrack(values=values[:-1], names=names, units=units, rate=dataset.fps)
    state = {
        key: column_values(rows, key, feature.shape)
        for key, feature in dataset.features.items()
        if key not in (*PLACE, action) and not feature.is_picture
    }
    if not note.get("last_action_repeated"):
        if not np.isfinite(values[-1]).all():
            raise ValueError(f"{action}: the last one is not finite")
        state[LAST_ACTION] = values[-1:]
    return track, state


def _tasks(
    dataset: Dataset, episode: Episode, rows: pa.Table
) -> tuple[tuple[str, ...], np.ndarray]:
    """The sentences of an episode, in the order of their first frame, and which one holds when."""
    indices = column_values(rows, "task_index", (1,))
    order = list(dict.fromkeys(indices.tolist()))
    unknown = [index for index in order if index not in dataset.tasks]
    if unknown:
        raise EpisodeRejectedError("task", f"task_index={unknown[0]}: no such task")
    place = {index: i for i, index in enumerate(order)}
    return tuple(dataset.tasks[i] for i in order), np.array([place[i] for i in indices.tolist()])


def _facts(
    dataset: Dataset, episode: Episode, views: Mapping[str, View], tasks: tuple[str, ...]
) -> dict[str, Any]:
    """The JSON of a sample, with the keys that every shard's has."""
    first, source = next(iter(views.values())), "lerobot"
    path = f"{dataset.root.name}/{episode.index:06d}"
    caption = "; then ".join(task for task in tasks if task)
    facts: dict[str, Any] = {"instruction": caption, "tasks": list(tasks)}
    padded = {view: list(shown.padding) for view, shown in views.items() if any(shown.padding)}
    if padded:
        facts["padding"] = padded
    return {
        "schema": 1, "kind": KIND, "source": hashlib.sha256(path.encode()).hexdigest()[:16],
        "path": path, "fps": dataset.fps, "width": first.width, "height": first.height,
        "num_frames": episode.length, "num_bytes": sum(len(v.data) for v in views.values()),
        "start_frame": 0, "end_frame": episode.length, "start_seconds": 0.0,
        "end_seconds": episode.length / dataset.fps, "views": list(views),
        "caption": caption, "caption_source": source,
        "captions": [{"text": caption, "source": source, "view": "main"}] if caption else [],
        "tags": [], "scores": {}, "facts": facts,
        "provenance": {
            "kind": "lerobot", "dataset": dataset.root.name, "version": dataset.version,
            "episode": episode.index, "robot_type": dataset.robot_type,
            "video": {view: "copied" if v.copied else "encoded" for view, v in views.items()},
        },
    }  # fmt: skip


def _read_note(text: str) -> dict[str, Any]:
    """What `export_lerobot` kept of a sample; empty for a dataset that was recorded."""
    try:
        note = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise EpisodeRejectedError("note", f"the note of openwfm is no JSON ({error})") from error
    for name, kind in KEPT_IN_NOTE.items():
        if not isinstance(note, dict) or not isinstance(note.get(name, kind()), kind):
            raise EpisodeRejectedError("note", f"{name}: must be of type {kind.__name__}")
    return note


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
