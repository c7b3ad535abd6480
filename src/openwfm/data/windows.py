"""Windows of clips, and the frames they are cut from."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from openwfm.data.shardset import ShardSet
from openwfm.files import atomic_path, read_json, write_json

Size = tuple[int, int]  # rows, columns


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
    """Decoded frames of a set of clips in memory-mapped arrays, one a size, written on first use.

    Decoding 17 frames out of an mp4 costs milliseconds; a slice of the map costs microseconds and
    is shared between processes. ``spans`` gives a clip's size, first frame and end in its array.
    """

    def __init__(
        self, frames: Mapping[Size, np.ndarray], spans: Mapping[str, tuple[Size, int, int]]
    ) -> None:
        self.frames, self.spans = dict(frames), dict(spans)

    @property
    def lengths(self) -> dict[str, int]:
        return {key: stop - start for key, (_, start, stop) in self.spans.items()}

    @property
    def sizes(self) -> dict[Size, int]:
        """Number of clips of each size (rows, columns), the most frequent size first."""
        counts = Counter(size for size, _, _ in self.spans.values())
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def size(self, key: str) -> Size:
        return self.spans[key][0]

    def read(self, window: Window) -> UInt8[np.ndarray, "t h w c"]:
        size, first, _ = self.spans[window.key]
        start = first + window.start
        return np.array(self.frames[size][start : start + window.num_frames])

    @classmethod
    def open(cls, folder: Path, index: ShardSet, keys: Sequence[str]) -> FrameCache:
        """Use the cache in ``folder`` if it is of these shards and clips, else write it."""
        if not keys:
            raise ValueError(f"{index.root}: no clips of the requested kinds")
        identity = {"manifest": index.manifest_sha256, "keys": sorted(keys)}
        return cls.of_clips(
            folder,
            identity,
            ((key, decode_clip(index.read(key, "mp4"), key)) for key in sorted(keys)),
        )

    @classmethod
    def of_clips(
        cls,
        folder: Path,
        identity: Mapping[str, object],
        clips: Iterable[tuple[str, UInt8[np.ndarray, "t h w c"]]],
    ) -> FrameCache:
        """Use the cache in ``folder`` if it has this ``identity``, else write ``clips`` into it."""
        header = folder / "clips.json"
        if not (header.is_file() and read_json(header)["of"] == dict(identity)):
            _write(folder, identity, clips)
        spans = {
            key: ((row[0], row[1]), row[2], row[3])
            for key, row in read_json(header)["spans"].items()
        }
        frames = {
            size: np.load(_array(folder, size), mmap_mode="r", allow_pickle=False)
            for size in {size for size, _, _ in spans.values()}
        }
        return cls(frames, spans)


def _array(folder: Path, size: Size) -> Path:
    return folder / f"frames_{size[0]}x{size[1]}.npy"


def _write(
    folder: Path,
    identity: Mapping[str, object],
    clips: Iterable[tuple[str, UInt8[np.ndarray, "t h w c"]]],
) -> None:
    spans: dict[str, tuple[int, int, int, int]] = {}
    parts: dict[Size, list[np.ndarray]] = {}
    for key, frames in tqdm(clips, desc="decode clips", unit="clip", mininterval=1.0):
        size = (frames.shape[1], frames.shape[2])
        start = sum(map(len, parts.setdefault(size, [])))
        spans[key] = (*size, start, start + len(frames))
        parts[size].append(frames)
    for size, frames_of_size in parts.items():
        with atomic_path(_array(folder, size)) as temporary, open(temporary, "wb") as file:
            np.save(file, np.concatenate(frames_of_size), allow_pickle=False)
    write_json(folder / "clips.json", {"of": dict(identity), "spans": spans})
