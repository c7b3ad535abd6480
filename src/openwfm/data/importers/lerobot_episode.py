"""Rows and pictures of one LeRobot episode, checked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import pyarrow as pa
import torch

from openwfm.data.importers.lerobot_layout import (
    Dataset,
    Episode,
    VideoSpan,
    column_values,
    read_table,
)
from openwfm.video import video_bytes

# LeRobot writes pts on the grid of the frame rate; a quarter of a frame off it is another picture.
MAX_SLIP = 0.25
MAX_RATE_ERROR = 0.02


class EpisodeRejectedError(ValueError):
    """An episode that cannot be used: ``reason`` is one word for counting, ``detail`` says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, kw_only=True)
class View:
    """An encoded camera. ``padding`` are the rows and columns that were added to reach even sizes
    (yuv420p), ``copied`` when the bytes are the dataset's own."""

    data: bytes
    width: int
    height: int
    padding: tuple[int, int]
    copied: bool


def read_rows(dataset: Dataset, episode: Episode, cameras: list[str]) -> pa.Table:
    """The rows of an episode, without pictures of cameras that are not wanted.

    Raises EpisodeRejectedError when they are not there, are too few, or are out of step with fps.
    """
    try:
        table = read_table(episode.data, filters=[("episode_index", "=", episode.index)])
    except ValueError as error:
        raise EpisodeRejectedError("data", str(error)) from error
    pictures = set(dataset.cameras) - set(cameras)
    table = table.select([name for name in table.column_names if name not in pictures])
    if len(table) != episode.length or not len(table):
        raise EpisodeRejectedError(
            "length", f"{len(table)} rows in {episode.data}, but its length is {episode.length}"
        )
    try:
        frames = column_values(table, "frame_index", (1,))
        slip = column_values(table, "timestamp", (1,)) * dataset.fps - np.arange(len(table))
    except (KeyError, ValueError) as error:
        raise EpisodeRejectedError("columns", str(error)) from error
    if not np.array_equal(frames, np.arange(len(table))):
        raise EpisodeRejectedError("order", "frame_index does not count from 0")
    if not np.abs(slip).max() <= MAX_SLIP:
        raise EpisodeRejectedError("fps", f"timestamps are not those of {dataset.fps:g} a second")
    return table


def read_view(dataset: Dataset, episode: Episode, key: str, rows: pa.Table) -> View:
    """Encode a camera, or copy its file.

    A file that holds this episode alone as plain H.264 is copied: re-encoding loses quality, and a
    copy gives the clip the same id each time it goes round. Everything else (AV1, files of many
    episodes, pictures in the table) is decoded and encoded as our other clips are.
    """
    if key not in episode.videos:
        return _encode(_pictures(rows, key), dataset.fps)
    span = episode.videos[key]
    if not span.path.is_file():
        raise EpisodeRejectedError("video_missing", f"{span.path}: no such file")
    frames = (span.stop - span.start) * dataset.fps
    if abs(frames - episode.length) > 2 * MAX_SLIP:
        raise EpisodeRejectedError(
            "video_length", f"{key}: {frames:g} frames long, but the episode has {episode.length}"
        )
    try:
        return _read_video(span, episode.length, dataset.fps)
    except (av.error.FFmpegError, OSError, IndexError, UnicodeDecodeError) as error:
        raise EpisodeRejectedError(
            "video_corrupt", f"{span.path}: does not decode ({error})"
        ) from error


def _read_video(span: VideoSpan, length: int, fps: float) -> View:
    with av.open(str(span.path), "r") as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if abs(rate / fps - 1) > MAX_RATE_ERROR:
            raise EpisodeRejectedError(
                "fps", f"{span.path}: {rate:g} frames a second, but meta/info.json says {fps:g}"
            )
        codec = stream.codec_context
        plain = codec.name == "h264" and codec.pix_fmt == "yuv420p"
        plain = plain and span.whole and len(container.streams) == 1
        plain = plain and not (codec.width % 2 or codec.height % 2)
        frames: list[np.ndarray] = []
        num_frames = 0
        for frame in _frames(container, stream, span, length, fps):
            turns = round(getattr(frame, "rotation", 0) / 90)
            plain = plain and not turns
            num_frames += 1
            if not plain:
                frames.append(np.rot90(frame.to_ndarray(format="rgb24", threads=1), turns))
        if num_frames != length:
            raise EpisodeRejectedError(
                "video_length", f"{span.path}: {num_frames} frames, but {length} rows"
            )
        if plain:
            size = {"width": codec.width, "height": codec.height}
            return View(data=span.path.read_bytes(), **size, padding=(0, 0), copied=True)
    return _encode(frames, fps)


def _frames(container: Any, stream: Any, span: VideoSpan, length: int, fps: float) -> Iterator[Any]:
    """Frames of the span in order; all of a whole file, so that a longer one is noticed."""
    if span.start:
        at = int(max(0.0, span.start - 0.5 / fps) / stream.time_base)
        container.seek(at, stream=stream, backward=True)
    count = 0
    for frame in container.decode(stream):
        if frame.pts is None:
            raise EpisodeRejectedError("video_corrupt", f"{span.path}: a frame has no time")
        place = (float(frame.pts * stream.time_base) - span.start) * fps
        if round(place) < 0:
            continue
        if count == length and not span.whole:
            return
        if abs(place - count) > MAX_SLIP:
            raise EpisodeRejectedError(
                "video_length",
                f"{span.path}: no frame at {span.start + count / fps:.4f} s (frame {count} of "
                f"{length})",
            )
        count += 1
        yield frame


def _pictures(rows: pa.Table, key: str) -> list[np.ndarray]:
    """Decoded PNG or JPEG pictures of a column of ``{bytes, path}``."""
    frames = []
    try:
        for cell in rows.column(key).to_pylist():
            if not cell["bytes"]:
                raise EpisodeRejectedError("picture", f"{key}: a picture is not in the table")
            with av.open(io.BytesIO(cell["bytes"]), "r") as container:
                frames.append(next(container.decode(video=0)).to_ndarray(format="rgb24", threads=1))
    except (av.error.FFmpegError, IndexError, KeyError, TypeError, StopIteration) as error:
        raise EpisodeRejectedError("picture", f"{key}: does not decode ({error!r})") from error
    return frames


def _encode(frames: list[np.ndarray], fps: float) -> View:
    """Odd sizes are padded by repeating the last row and column: yuv420p has no others, and a crop
    would lose pixels."""
    if len({frame.shape for frame in frames}) != 1:
        raise EpisodeRejectedError("picture", "the pictures change size")
    height, width = frames[0].shape[:2]
    padding = (height % 2, width % 2)
    video = np.stack(frames)
    if any(padding):
        video = np.pad(video, ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0)), mode="edge")
    return View(
        data=video_bytes(torch.from_numpy(video), fps),
        height=video.shape[1], width=video.shape[2], padding=padding, copied=False,
    )  # fmt: skip
