"""Windows of clips, and the frames they are cut from."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from openwfm.data.shardset import ShardSet
from openwfm.files import atomic_path, read_json, write_json


@dataclass(frozen=True, slots=True)
class Window:
    """``num_frames`` frames of clip ``key``, beginning at frame ``start``."""

    key: str
    start: int
    num_frames: int


def cut_windows(lengths: Mapping[str, int], num_frames: int, stride: int) -> list[Window]:
    """All windows whose start is a multiple of ``stride`` and that fit into their clip."""
    return [
        Window(key, start, num_frames)
        for key in sorted(lengths)
        for start in range(0, lengths[key] - num_frames + 1, stride)
    ]


def decode_clip(data: bytes, name: str) -> UInt8[np.ndarray, "t h w c"]:
    """All frames of an encoded clip. Raises ValueError naming the clip when it does not decode."""
    try:
        with av.open(io.BytesIO(data), "r") as container:
            frames = [
                frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)
            ]
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"clip {name}: does not decode ({error})") from error
    if not frames:
        raise ValueError(f"clip {name}: holds no frames")
    return np.stack(frames)


class FrameCache:
    """Decoded frames of a set of clips in one memory-mapped array, written on first use.

    Decoding 17 frames out of an mp4 costs milliseconds; a slice of the map costs microseconds and
    is shared between processes.
    """

    def __init__(self, frames: np.ndarray, spans: Mapping[str, tuple[int, int]]) -> None:
        self.frames, self.spans = frames, spans

    @property
    def lengths(self) -> dict[str, int]:
        return {key: stop - start for key, (start, stop) in self.spans.items()}

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.frames.shape[1]), int(self.frames.shape[2])

    def read(self, window: Window) -> UInt8[np.ndarray, "t h w c"]:
        start = self.spans[window.key][0] + window.start
        return np.array(self.frames[start : start + window.num_frames])

    @classmethod
    def open(cls, folder: Path, index: ShardSet, keys: Sequence[str]) -> FrameCache:
        """Use the cache in ``folder`` if it is of these shards and clips, else write it."""
        identity: dict[str, object] = {"manifest": index.manifest_sha256, "keys": sorted(keys)}
        header, array = folder / "frames.json", folder / "frames.npy"
        if not (header.is_file() and array.is_file() and read_json(header)["of"] == identity):
            cls._write(folder, index, sorted(keys), identity)
        spans = {key: (span[0], span[1]) for key, span in read_json(header)["spans"].items()}
        return cls(np.load(array, mmap_mode="r", allow_pickle=False), spans)

    @staticmethod
    def _write(
        folder: Path, index: ShardSet, keys: Sequence[str], identity: dict[str, object]
    ) -> None:
        spans, total, shape = {}, 0, None
        clips = []
        for key in tqdm(keys, desc="decode clips", unit="clip", disable=len(keys) < 50):
            frames = decode_clip(index.read(key, "mp4"), key)
            shape = shape or frames.shape[1:]
            if frames.shape[1:] != shape:
                raise ValueError(
                    f"clip {key}: size {frames.shape[2]}x{frames.shape[1]} differs from "
                    f"{shape[1]}x{shape[0]} of {keys[0]}; curate with one size, or one bucket a run"
                )
            spans[key] = (total, total + len(frames))
            total += len(frames)
            clips.append(frames)
        if shape is None:
            raise ValueError(f"{index.root}: no clips of the requested kinds")
        with atomic_path(folder / "frames.npy") as temporary, open(temporary, "wb") as file:
            np.save(file, np.concatenate(clips), allow_pickle=False)
        write_json(folder / "frames.json", {"of": identity, "spans": spans})
