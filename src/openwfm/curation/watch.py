"""A `Look` of a video outside the pipeline: of a file to search with, or of frames in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from openwfm.curation.look import Look, LookTaker
from openwfm.curation.record import VideoFacts
from openwfm.video import open_video


def look_of(frames: Iterable[np.ndarray], total: int, fps: float) -> Look:
    """Look of ``total`` RGB frames (uint8 ``h w 3``, of one size) that come in order.

    Raises ValueError when another number of frames comes, or none.
    """
    taker: LookTaker | None = None
    for array in frames:
        if taker is None:
            taker = LookTaker(total, fps, _facts(array, total, fps))
        taker.see(VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24"))
    if taker is None:
        raise ValueError("look: no frame came")
    return taker.finish()


def look_of_file(path: Path | str, *, max_seconds: float = 60.0) -> Look:
    """Look of the file's first ``max_seconds``, read twice so that one frame is in memory.

    Raises ValueError naming the file when it is no readable video.
    """
    with open_video(path) as (frames, fps):
        limit = max(1, round(max_seconds * fps))
        total = sum(1 for _ in _first(frames, limit))
    if not total:
        raise ValueError(f"{path}: holds no frame")
    with open_video(path) as (frames, fps):
        return look_of(_first(frames, total), total, fps)


def _first(frames: Iterable[np.ndarray], limit: int) -> Iterable[np.ndarray]:
    for index, frame in enumerate(frames):
        if index == limit:
            return
        yield frame


def _facts(frame: np.ndarray, total: int, fps: float) -> VideoFacts:
    height, width = frame.shape[:2]
    return VideoFacts(
        width=width, height=height, fps=fps, num_frames=total, seconds=total / fps,
        codec="rawvideo", pixel_format="rgb24", rotation=0, pixel_aspect=1.0, variable_fps=False,
    )  # fmt: skip
