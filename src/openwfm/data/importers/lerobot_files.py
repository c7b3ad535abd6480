"""The files of a LeRobot dataset, written episode by episode; v2.1 and v3.0.

Source: what lerobot 0.3.3 (v2.1) and lerobot-dataset 0.4.4 (v3.0) write, and read back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openwfm.data.importers.lerobot_layout import INFO, NOTE
from openwfm.data.importers.lerobot_stats import Stats, column_stats, merge_stats, picture_stats
from openwfm.files import write_bytes, write_json, write_text

CHUNK_SIZE, DATA_MB, VIDEO_MB = 1000, 100, 200
CHUNK_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
PATHS = {
    "v2.1": {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
    },
    "v3.0": {
        "data_path": f"data/{CHUNK_FILE}.parquet",
        "video_path": f"videos/{{video_key}}/{CHUNK_FILE}.mp4",
    },
}


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeData:
    """``columns`` are arrays ``t …``; ``videos`` are mp4 bytes and their frames ``t h w c`` by
    camera key; ``task_of_frame`` indexes ``tasks``."""

    clip: str
    fps: float
    columns: Mapping[str, np.ndarray]
    action_names: tuple[str, ...]
    videos: Mapping[str, tuple[bytes, np.ndarray]]
    tasks: list[str]
    task_of_frame: np.ndarray
    note: str

    @property
    def length(self) -> int:
        return len(self.task_of_frame)


class DatasetWriter:
    """`add` each episode, then `finish`; ``meta/info.json`` is written last."""

    def __init__(self, root: Path, version: str, robot_type: str) -> None:
        self.root, self.version, self.robot_type = root, version, robot_type
        self.num_frames, self.fps = 0, 0
        self._features: dict[str, Any] = {}
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._stats: list[dict[str, Stats]] = []
        self._data = _DataFiles(root)

    def add(self, episode: EpisodeData) -> None:
        """Raises ValueError naming a clip that does not look like the first."""
        self._check(episode)
        number = len(self._episodes)
        for task in episode.tasks:
            self._tasks.setdefault(task, len(self._tasks))
        of_task = np.array([self._tasks[task] for task in episode.tasks], np.int64)
        steps = np.arange(episode.length)
        place = {
            "timestamp": (steps / self.fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(episode.length, number),
            "index": steps + self.num_frames,
            "task_index": of_task[episode.task_of_frame],
        }
        columns = {**episode.columns, **place}
        stats: dict[str, Stats] = {
            k: column_stats(v) for k, v in columns.items() if v.dtype.kind != "U"
        }
        stats |= {key: picture_stats(frames) for key, (_, frames) in episode.videos.items()}
        table = pa.table({key: _column(values) for key, values in columns.items()})
        row = {"episode_index": number, "tasks": list(episode.tasks), "length": episode.length}
        row[NOTE] = episode.note
        if self.version == "v2.1":
            at = {"episode_chunk": number // CHUNK_SIZE, "episode_index": number}
            path = self.root / PATHS["v2.1"]["data_path"].format(**at)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
        else:
            at = dict(zip(("chunk_index", "file_index"), divmod(number, CHUNK_SIZE), strict=True))
            row |= self._places_v30(episode, table, at)
        for key, (data, _) in episode.videos.items():
            video_path = PATHS[self.version]["video_path"].format(video_key=key, **at)
            write_bytes(self.root / video_path, data)
        self._episodes.append(row)
        self._stats.append(stats)
        self.num_frames += episode.length

    def _places_v30(
        self, episode: EpisodeData, table: pa.Table, video: Mapping[str, int]
    ) -> dict[str, Any]:
        """Write the rows; the columns of ``meta/episodes`` that say where everything is."""
        stop = self.num_frames + episode.length
        row: dict[str, Any] = {"dataset_from_index": self.num_frames, "dataset_to_index": stop}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        row |= {f"data/{name}": value for name, value in self._data.add(table).items()}
        seconds = {"from_timestamp": 0.0, "to_timestamp": episode.length / self.fps}
        for key in episode.videos:
            row |= {f"videos/{key}/{name}": value for name, value in {**video, **seconds}.items()}
        return row

    def _check(self, episode: EpisodeData) -> None:
        features = _features(episode)
        if not self._features:
            if episode.fps != int(episode.fps):
                raise ValueError(
                    f"clip {episode.clip}: fps={episode.fps:g}: LeRobot counts whole frames a "
                    "second"
                )
            self._features, self.fps = features, int(episode.fps)
        if episode.fps != self.fps:
            raise ValueError(f"clip {episode.clip}: fps={episode.fps:g}: the first has {self.fps}")
        for key in sorted(self._features | features):
            one, other = self._features.get(key), features.get(key)
            if one != other:
                raise ValueError(
                    f"clip {episode.clip}: {key}: {other}; the first clip has {one}. One dataset "
                    "has one set of features"
                )

    def finish(self) -> None:
        self._data.close()
        stats = {key: merge_stats([part[key] for part in self._stats]) for key in self._stats[0]}
        if self.version == "v2.1":
            self._finish_v21()
        else:
            self._finish_v30()
            write_json(self.root / "meta/stats.json", _listed(stats))
        total, cameras = len(self._episodes), len(_cameras(self._features))
        info: dict[str, Any] = {
            "codebase_version": self.version, "robot_type": self.robot_type,
            "total_episodes": total, "total_frames": self.num_frames,
            "total_tasks": len(self._tasks), "chunks_size": CHUNK_SIZE, "fps": self.fps,
            "splits": {"train": f"0:{total}"}, **PATHS[self.version], "features": self._features,
        }  # fmt: skip
        if self.version == "v2.1":
            info |= {"total_videos": total * cameras, "total_chunks": -(-total // CHUNK_SIZE)}
        else:
            info |= {"data_files_size_in_mb": DATA_MB, "video_files_size_in_mb": VIDEO_MB}
        write_json(self.root / INFO, info)

    def _finish_v21(self) -> None:
        tasks = [{"task_index": i, "task": task} for task, i in self._tasks.items()]
        stats = [{"episode_index": i, "stats": _listed(part)} for i, part in enumerate(self._stats)]
        for name, rows in (
            ("tasks", tasks), ("episodes", self._episodes), ("episodes_stats", stats),
        ):  # fmt: skip
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(self.root / f"meta/{name}.jsonl", lines)

    def _finish_v30(self) -> None:
        tasks = pa.table(
            {"task_index": list(self._tasks.values()), "__index_level_0__": list(self._tasks)}
        )
        rows = [
            row | {f"stats/{k}/{n}": v for k, s in _listed(part).items() for n, v in s.items()}
            for row, part in zip(self._episodes, self._stats, strict=True)
        ]
        folder = self.root / "meta/episodes/chunk-000"
        folder.mkdir(parents=True)
        pq.write_table(tasks.replace_schema_metadata(_PANDAS), self.root / "meta/tasks.parquet")
        pq.write_table(pa.Table.from_pylist(rows), folder / "file-000.parquet")


class _DataFiles:
    """Tables of episodes one after another, in files of at most about ``DATA_MB``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._writer: pq.ParquetWriter | None = None
        self._number, self._bytes = -1, 0

    def add(self, table: pa.Table) -> dict[str, int]:
        """Returns where it went."""
        if self._writer is None or self._bytes + table.nbytes > DATA_MB * 2**20:
            self.close()
            self._number, self._bytes = self._number + 1, 0
            path = self.root / PATHS["v3.0"]["data_path"].format(**self._place())
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, table.schema)
        self._writer.write_table(table)
        self._bytes += table.nbytes
        return self._place()

    def _place(self) -> dict[str, int]:
        chunk, file = divmod(self._number, CHUNK_SIZE)
        return {"chunk_index": chunk, "file_index": file}

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


# `pandas.read_parquet` must find the sentences as the index.
_PANDAS = {
    "pandas": json.dumps(
        {
            "index_columns": ["__index_level_0__"],
            "column_indexes": [],
            "columns": [
                {
                    "name": name, "field_name": field, "pandas_type": kind, "numpy_type": numpy,
                    "metadata": None,
                }
                for name, field, kind, numpy in (
                    ("task_index", "task_index", "int64", "int64"),
                    (None, "__index_level_0__", "unicode", "object"),
                )
            ],
            "pandas_version": "2.2.0",
        }
    )
}  # fmt: skip


def _features(episode: EpisodeData) -> dict[str, Any]:
    place = dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    features: dict[str, Any] = {
        key: {"dtype": dtype, "shape": [1], "names": None}
        for key, dtype in {"timestamp": "float32", **place}.items()
    }
    for key, values in episode.columns.items():
        dtype = "string" if values.dtype.kind == "U" else values.dtype.name
        features[key] = {"dtype": dtype, "shape": list(values.shape[1:]) or [1], "names": None}
    features["action"]["names"] = list(episode.action_names)
    for key, (_, frames) in episode.videos.items():
        height, width, channels = frames.shape[1:]
        features[key] = {
            "dtype": "video",
            "shape": [height, width, channels],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height, "video.width": width, "video.codec": "h264",
                "video.pix_fmt": "yuv420p", "video.is_depth_map": False,
                "video.fps": int(episode.fps), "video.channels": channels, "has_audio": False,
            },
        }  # fmt: skip
    return features


def _cameras(features: Mapping[str, Any]) -> list[str]:
    return [key for key, feature in features.items() if feature["dtype"] == "video"]


def _listed(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    return {key: {name: v.tolist() for name, v in part.items()} for key, part in stats.items()}


def _column(values: np.ndarray) -> pa.Array:
    """``t`` as numbers, ``t a`` as lists of one size, more axes as lists of lists (as the storage
    of ``datasets.Array2D``)."""
    column = pa.array(values.reshape(-1).tolist() if values.dtype.kind == "U" else values.ravel())
    for axis in range(values.ndim - 1, 0, -1):
        size = values.shape[axis]
        if values.ndim == 2:
            return pa.FixedSizeListArray.from_arrays(column, size)
        starts = np.arange(0, len(column) + 1, size, dtype=np.int32)
        column = pa.ListArray.from_arrays(starts, column)
    return column
