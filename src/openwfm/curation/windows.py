"""What a vision model sees of a clip: windows of frames, pictures of them at a steady rate."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
from jaxtyping import UInt8

from openwfm.curation.look import spread
from openwfm.curation.record import Clip
from openwfm.extras import require


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """``frames`` a window; a remainder of at least ``min_remainder`` is a window of its own, a
    shorter one joins the window before; a clip under ``min_frames`` has none.

    ``pictures_per_second`` are shown of a window, at most ``max_pictures``, as JPEG of ``quality``
    (1 to 100), scaled down to ``max_side`` pixels on the longer side. ``pictures_of``: ``clip``
    (the encoded clip: what a model will be trained on) or ``source`` (the uncropped stills of
    `Look`: for clips too small to read, with at most 24 stills a clip).
    """

    frames: int = 256
    min_remainder: int = 128
    min_frames: int = 4
    pictures_per_second: float = 2.0
    max_pictures: int = 64
    max_side: int = 640
    quality: int = 90
    pictures_of: str = "clip"

    def __post_init__(self) -> None:
        rules = (
            ("frames", self.frames >= 1, "at least 1"),
            ("min_remainder", 1 <= self.min_remainder <= self.frames, "in 1..frames"),
            ("min_frames", 1 <= self.min_frames <= self.frames, "in 1..frames"),
            ("pictures_per_second", 0 < self.pictures_per_second <= 240, "in (0, 240]"),
            ("max_pictures", self.max_pictures >= 1, "at least 1"),
            ("max_side", self.max_side >= 16, "at least 16 (pixels)"),
            ("quality", 1 <= self.quality <= 100, "in 1..100"),
            ("pictures_of", self.pictures_of in ("clip", "source"), "clip or source"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"windows.{name}={getattr(self, name)}: must be {rule}")


def cut_windows(num_frames: int, config: WindowConfig) -> list[tuple[int, int]]:
    """Start and end (exclusive) of each window; together they are the whole clip."""
    if num_frames < config.min_frames:
        return []
    starts = list(range(0, num_frames, config.frames))
    if len(starts) > 1 and num_frames - starts[-1] < config.min_remainder:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_frames], strict=True))


def picture_indices(start: int, end: int, fps: float, config: WindowConfig) -> list[int]:
    """Frames of a window that are shown: evenly spread, at least one."""
    wanted = max(1, round((end - start) / fps * config.pictures_per_second))
    return [start + index for index in spread(end - start, min(wanted, config.max_pictures))]


def window_pictures(
    clip: Clip, windows: list[tuple[int, int]], config: WindowConfig
) -> list[tuple[bytes, ...]]:
    """JPEG pictures of each window, in order of time; the clip is decoded once.

    Raises ValueError when the stills are wanted and the clip has none in memory.
    """
    assert clip.media is not None
    if config.pictures_of == "source":
        return _stills(clip, windows, config)
    wanted = [picture_indices(start, end, clip.fps, config) for start, end in windows]
    frames = _decode(clip.media.video, {index for indices in wanted for index in indices})
    return [
        tuple(jpeg(frames[index], config) for index in indices if index in frames)
        for indices in wanted
    ]


def _stills(
    clip: Clip, windows: list[tuple[int, int]], config: WindowConfig
) -> list[tuple[bytes, ...]]:
    assert clip.media is not None
    look = clip.media.look
    if look is None:
        raise ValueError(f"windows.pictures_of=source: clip {clip.name} has no stills in memory")
    at = look.still_times * look.fps
    shown = []
    for start, end in windows:
        inside = np.flatnonzero((at >= start) & (at < end)).tolist()
        nearest = [int(np.abs(at - (start + end) / 2).argmin())]
        shown.append(inside[:: -(-len(inside) // config.max_pictures)] if inside else nearest)
    return [tuple(jpeg(look.stills[index], config) for index in indices) for indices in shown]


def _decode(video: bytes, wanted: set[int]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
    found = {}
    with av.open(io.BytesIO(video), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                found[index] = frame.to_ndarray(format="rgb24")
    return found


def jpeg(picture: UInt8[np.ndarray, "h w 3"], config: WindowConfig) -> bytes:
    """RGB pixels as JPEG, never scaled up."""
    cv2 = require("cv2", extra="curation")
    height, width = picture.shape[:2]
    factor = min(1.0, config.max_side / max(height, width))
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, config.quality]
    )
    assert done
    return bytes(data.tobytes())
