"""Windows of clips, and the frames they are cut from."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


Spans = Mapping[str, tuple[Size, int, int]]


class FrameCache:
    """Decoded frames of a set of clips in memory-mapped arrays, one a size, written on first use.

    Decoding 17 frames out of an mp4 costs milliseconds; a slice of the map costs microseconds and
    is shared between processes. ``spans`` gives a clip's size, first frame and end in its array;
    ``frames`` are asked for when the first pixels are, so lengths and sizes cost no decoding.
    """

    def __init__(self, spans: Spans, frames: Callable[[], Mapping[Size, np.ndarray]]) -> None:
        self.spans = dict(spans)
        self._open = frames
        self._frames: Mapping[Size, np.ndarray] | None = None

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

    @property
    def frames(self) -> Mapping[Size, np.ndarray]:
        """The arrays. Ask once before worker processes start, so that one process decodes."""
        if self._frames is None:
            self._frames = self._open()
        return self._frames

    def read(self, window: Window) -> UInt8[np.ndarray, "t h w c"]:
        size, first, _ = self.spans[window.key]
        start = first + window.start
        return np.array(self.frames[size][start : start + window.num_frames])

    @classmethod
    def open(
        cls, folder: Path, index: ShardSet, keys: Sequence[str], views: Sequence[str] = ()
    ) -> FrameCache:
        """Lengths and sizes as the clips' json says, frames from the cache in ``folder``. Several
        ``views`` of a clip lie below each other in its pictures, in this order.

        The cache is written when it is not of these shards and clips: at the first pixel, or at
        once where a json does not tell. A clip that does not hold what its json says is a
        ValueError then.
        """
        if not keys:
            raise ValueError(f"{index.root}: no clips of the requested kinds")
        keys = sorted(keys)
        identity: dict[str, object] = {"manifest": index.manifest_sha256, "keys": keys}
        if views:
            identity["views"] = list(views)

        def write() -> FrameCache:
            clips = ((key, _decode(index, key, views)) for key in keys)
            return cls.of_clips(folder, identity, clips)

        spans = _spans({key: index.metadata(key) for key in keys}, max(1, len(views)))
        if spans is None:
            return write()

        def frames() -> Mapping[Size, np.ndarray]:
            found = write()
            for key, (size, start, stop) in found.spans.items():
                wanted, first, end = spans[key]
                if (size, stop - start) != (wanted, end - first):
                    raise ValueError(
                        f"clip {key}: holds {stop - start} frames of {size[1]}x{size[0]}, but its "
                        f"json says {end - first} of {wanted[1]}x{wanted[0]}; write the shards anew"
                    )
            return found.frames

        return cls(spans, frames)

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
        sizes = {size for size, _, _ in spans.values()}
        frames = {
            size: np.load(_array(folder, size), mmap_mode="r", allow_pickle=False) for size in sizes
        }
        return cls(spans, lambda: frames)


def _decode(index: ShardSet, key: str, views: Sequence[str]) -> UInt8[np.ndarray, "t h w c"]:
    """Raises ValueError naming a view that the clip does not have, or has in another shape."""
    if not views:
        return decode_clip(index.read(key, "mp4"), key)
    missing = [view for view in views if f"{view}.mp4" not in index.members(key)]
    if missing:
        raise ValueError(f"clip {key}: has no view {', '.join(missing)} of data.views={views}")
    clips = [decode_clip(index.read(key, f"{view}.mp4"), f"{key}.{view}") for view in views]
    if len({clip.shape for clip in clips}) > 1:
        shapes = {view: clip.shape for view, clip in zip(views, clips, strict=True)}
        raise ValueError(f"clip {key}: views of shapes {shapes}: must be equal")
    return np.concatenate(clips, axis=1)


def _spans(
    clips: Mapping[str, Mapping[str, Any]], num_views: int
) -> dict[str, tuple[Size, int, int]] | None:
    """Where the cache has each clip, by the clips' json; None where one does not tell."""
    stops: dict[Size, int] = {}
    spans: dict[str, tuple[Size, int, int]] = {}
    for key, facts in clips.items():
        if not all(facts.get(name) for name in ("height", "width", "num_frames")):
            return None
        size = (int(facts["height"]) * num_views, int(facts["width"]))
        start = stops.get(size, 0)
        stops[size] = start + int(facts["num_frames"])
        spans[key] = (size, start, stops[size])
    return spans


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
