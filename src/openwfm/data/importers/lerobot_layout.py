"""Where a LeRobot dataset keeps what: the metadata of v2.1 and v3.0, as one description.

Source: ``lerobot/datasets/{utils,lerobot_dataset}.py`` of lerobot 0.3.3 (v2.1) and 0.4.4 (v3.0).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwfm.files import read_json

VERSIONS = ("v2.1", "v3.0")
NOTE = "openwfm"  # a column of ours beside an episode's: what LeRobot has no place for
INFO = "meta/info.json"
# Features that every dataset has: the place of a frame, which the order of rows already says.
PLACE = ("timestamp", "frame_index", "episode_index", "index", "task_index")
PICTURES = ("video", "image")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column or a camera: ``shape`` of one frame, ``names`` of its dimensions where known."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def is_picture(self) -> bool:
        return self.dtype in PICTURES


@dataclass(frozen=True, kw_only=True)
class VideoSpan:
    """Part of a video file; ``whole`` when no other episode is in it. ``stop`` is in seconds."""

    path: Path
    start: float
    stop: float
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Episode:
    """``data`` is a parquet file that holds this episode's rows, perhaps among others'."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, VideoSpan]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What ``meta/`` says. ``tasks`` are sentences by their index."""

    root: Path
    version: str
    robot_type: str
    fps: float
    features: Mapping[str, Feature]
    tasks: Mapping[int, str]
    episodes: tuple[Episode, ...]

    @property
    def cameras(self) -> list[str]:
        return [key for key, feature in self.features.items() if feature.is_picture]


def open_dataset(root: Path | str) -> Dataset:
    """Raises ValueError naming the file and what is wrong with it; videos and rows are not read."""
    root = Path(root)
    if not (root / INFO).is_file():
        raise ValueError(f"{root}: no LeRobot dataset (it has no {INFO})")
    info = read_json(root / INFO)
    try:
        version, fps = str(info["codebase_version"]), float(info["fps"])
        features = {str(key): _feature(value) for key, value in info["features"].items()}
        total, robot = int(info["total_episodes"]), str(info.get("robot_type") or "")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{root / INFO}: not the info of a LeRobot dataset ({error!r})") from error
    if version not in VERSIONS:
        raise ValueError(
            f"{root / INFO}: codebase_version={version}: must be one of {', '.join(VERSIONS)}; "
            "the lerobot package converts older ones"
        )
    if not 0 < fps <= 1000:
        raise ValueError(f"{root / INFO}: fps={fps}: must be above 0 and at most 1000")
    tasks, rows = (_read_v21 if version == "v2.1" else _read_v30)(root)
    videos = [key for key, feature in features.items() if feature.dtype == "video"]
    try:
        episodes = tuple(_Places(root, info, videos).episodes(rows))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{root}/meta: an episode lacks {error}") from error
    if len(episodes) != total or len({episode.index for episode in episodes}) != total:
        raise ValueError(
            f"{root}/meta: {len(episodes)} episodes, but total_episodes={total} in {INFO}"
        )
    return Dataset(
        root=root, version=version, robot_type=robot, fps=fps, features=features, tasks=tasks,
        episodes=episodes,
    )  # fmt: skip


def _feature(value: Mapping[str, Any]) -> Feature:
    """Names come as a list, as ``{"motors": [...]}`` or not at all."""
    names = value.get("names") or ()
    if isinstance(names, Mapping):
        names = next((v for v in names.values() if isinstance(v, list)), tuple(names))
    return Feature(
        dtype=str(value["dtype"]),
        shape=tuple(int(size) for size in value["shape"]),
        names=tuple(map(str, names)),
    )


def _read_v21(root: Path) -> tuple[dict[int, str], list[dict[str, Any]]]:
    tasks = {int(row["task_index"]): str(row["task"]) for row in _lines(root / "meta/tasks.jsonl")}
    return tasks, _lines(root / "meta/episodes.jsonl")


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    except ValueError as error:
        raise ValueError(f"{file}: not lines of JSON ({error})") from error


def _read_v30(root: Path) -> tuple[dict[int, str], list[dict[str, Any]]]:
    table = read_table(root / "meta/tasks.parquet")
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise ValueError(f"{root}/meta/tasks.parquet: must hold task_index and the task's text")
    indices, sentences = (table.column(n).to_pylist() for n in ("task_index", texts[0]))
    files = sorted((root / "meta/episodes").glob("*/*.parquet"))
    rows: list[dict[str, Any]] = []
    for file in files:
        episodes = read_table(file)
        wanted = [name for name in episodes.column_names if not name.startswith("stats/")]
        rows += episodes.select(wanted).to_pylist()
    return dict(zip(indices, map(str, sentences), strict=True)), rows


def read_table(file: Path, **filters: Any) -> pa.Table:
    """Raises ValueError naming the file when it is missing or no parquet."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        return pq.read_table(file, partitioning=None, **filters)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: not a readable parquet file ({error})") from error


class _Places:
    """Rows of the metadata into episodes with paths."""

    def __init__(self, root: Path, info: Mapping[str, Any], videos: list[str]) -> None:
        self.root, self.info, self.videos = root, info, videos

    def episodes(self, rows: list[dict[str, Any]]) -> list[Episode]:
        v30 = self.info["codebase_version"] == "v3.0"
        episodes = [self._v30(row) if v30 else self._v21(row) for row in rows]
        counts: dict[Path, int] = {}
        for episode in episodes:
            for span in episode.videos.values():
                counts[span.path] = counts.get(span.path, 0) + 1
        return [_mark_whole(episode, counts) for episode in episodes]

    def _v21(self, row: Mapping[str, Any]) -> Episode:
        index, length = int(row["episode_index"]), int(row["length"])
        place = {
            "episode_chunk": index // int(self.info.get("chunks_size", 1000)),
            "episode_index": index,
        }
        seconds = length / float(self.info["fps"])
        videos = {
            key: VideoSpan(
                path=self._path("video_path", place | {"video_key": key}),
                start=0.0, stop=seconds, whole=True,
            )
            for key in self.videos
        }  # fmt: skip
        return _episode(row, self._path("data_path", place), videos)

    def _v30(self, row: Mapping[str, Any]) -> Episode:
        videos = {}
        for key in self.videos:
            at = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
            start, stop = (row[f"videos/{key}/{name}_timestamp"] for name in ("from", "to"))
            videos[key] = VideoSpan(
                path=self._path("video_path", at | {"video_key": key}),
                start=float(start), stop=float(stop), whole=True,
            )  # fmt: skip
        at = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        return _episode(row, self._path("data_path", at), videos)

    def _path(self, which: str, values: Mapping[str, Any]) -> Path:
        """Raises ValueError for a template that cannot be filled, or that leads out of the folder;
        links inside it are followed, because the hub's cache is made of them."""
        try:
            path = str(self.info[which]).format(**values)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{self.root / INFO}: {which}={self.info.get(which)}: cannot be filled ({error!r})"
            ) from error
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\0" in path:
            raise ValueError(f"{self.root / INFO}: {which} gives {path}: leads out of the folder")
        return self.root / path


def _episode(row: Mapping[str, Any], data: Path, videos: Mapping[str, VideoSpan]) -> Episode:
    return Episode(
        index=int(row["episode_index"]), length=int(row["length"]),
        tasks=tuple(map(str, row.get("tasks") or ())), data=data, videos=videos,
        note=str(row.get(NOTE) or ""),
    )  # fmt: skip


def _mark_whole(episode: Episode, counts: Mapping[Path, int]) -> Episode:
    videos = {
        key: VideoSpan(
            path=span.path, start=span.start, stop=span.stop,
            whole=counts[span.path] == 1 and span.start == 0.0,
        )
        for key, span in episode.videos.items()
    }  # fmt: skip
    return Episode(**{**vars(episode), "videos": videos})


def column_values(table: pa.Table, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A column as an array ``t …`` (``t`` alone when ``shape`` is one number).

    Raises ValueError naming the column when it holds gaps or has another shape.
    """
    column = table.column(key).combine_chunks()
    while isinstance(column, pa.ExtensionArray):
        column = column.storage
    inner = column
    while pa.types.is_nested(inner.type):
        if inner.null_count:
            raise ValueError(f"{key}: holds gaps")
        if pa.types.is_struct(inner.type) or len(pc.list_value_length(inner).unique()) != 1:
            raise ValueError(f"{key}: {column.type}: must be lists of one length")
        inner = inner.flatten()
    if inner.null_count:
        raise ValueError(f"{key}: holds gaps")
    text = pa.types.is_string(inner.type) or pa.types.is_large_string(inner.type)
    values = np.array(inner.to_pylist(), np.str_) if text else inner.to_numpy(zero_copy_only=False)
    wanted = (len(table),) if shape in ((1,), ()) else (len(table), *shape)
    if values.size != int(np.prod(wanted)) or values.dtype.hasobject:
        raise ValueError(f"{key}: {values.size} values of {inner.type}: must be {wanted}")
    return values.reshape(wanted)
