"""The motion vectors that an encoder stored in a clip, as displacements of the picture's cells."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.sidedata.motionvectors import MotionVectors
from av.video.frame import PictureType, VideoFrame
from jaxtyping import Complex, Float

CELL, BLOCK = 16, 4  # pixels; BLOCK divides every block of H.264


def predicted_frames(video: bytes) -> Iterator[tuple[float, float, VideoFrame, np.ndarray]]:
    """P-frames that have vectors: seconds, seconds since the frame that they refer to, the frame,
    and libav's structured array, one row a block."""
    with av.open(io.BytesIO(video), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"flags2": "+export_mvs"}
        reference: float | None = None
        for frame in container.decode(stream):
            if frame.time is None or frame.pict_type == PictureType.B:
                continue
            vectors = _exported(frame)
            before, reference = reference, frame.time
            if frame.pict_type == PictureType.P and vectors is not None and before is not None:
                yield frame.time, frame.time - before, frame, vectors.to_ndarray()


def _exported(frame: VideoFrame) -> MotionVectors | None:
    side_data: Any = frame.side_data  # a mapping by its type, but it iterates over its values
    return next((data for data in side_data if isinstance(data, MotionVectors)), None)


def average_vectors(
    vectors: np.ndarray, height: int, width: int
) -> tuple[Complex[np.ndarray, "r c"], Float[np.ndarray, "r c"]]:
    """Mean displacement in pixels (x + iy, from the reference to this frame) of each whole 16×16
    cell, by area, and the share of its area that has a vector at all (intra blocks have none).

    ``vectors`` is libav's structured array; only references to the past count.
    """
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    past = vectors[vectors["source"] < 0]
    # libav gives the vector from the block to where it came from, in parts of a pixel.
    moved = -(past["motion_x"].astype(float) + 1j * past["motion_y"]) / past["motion_scale"]
    top = (past["dst_y"].astype(int) - past["h"] // 2) // BLOCK
    left = (past["dst_x"].astype(int) - past["w"] // 2) // BLOCK
    down, across = past["h"].astype(int) // BLOCK, past["w"].astype(int) // BLOCK
    total, count = np.zeros(rows * columns, complex), np.zeros(rows * columns)
    for y, x in np.ndindex(int(down.max(initial=0)), int(across.max(initial=0))):
        row, column = top + y, left + x
        inside = (y < down) & (x < across) & (row >= 0) & (row < rows)
        inside &= (column >= 0) & (column < columns)
        at = row[inside] * columns + column[inside]
        count += np.bincount(at, minlength=count.size)
        total.real += np.bincount(at, moved[inside].real, minlength=count.size)
        total.imag += np.bincount(at, moved[inside].imag, minlength=count.size)
    share = _block_sums(count.reshape(rows, columns), height, width)
    mean = _block_sums(total.reshape(rows, columns), height, width) / np.maximum(share, 1)
    return mean, np.minimum(share / (CELL // BLOCK) ** 2, 1.0)


def _block_sums(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sums over whole cells of the values of their blocks."""
    side = CELL // BLOCK
    rows, columns = height // CELL, width // CELL
    whole = values[: rows * side, : columns * side]
    sums: np.ndarray = whole.reshape(rows, side, columns, side).sum(axis=(1, 3))
    return sums
