"""Displacement fields of pictures: from optical flow, or from the vectors that a codec stored."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.sidedata.motionvectors import MotionVectors
from av.video.frame import PictureType, VideoFrame
from jaxtyping import Bool, Complex, Float, UInt8

from openwfm.curation.look import PAIR_SECONDS, PAIRS_PER_SECOND, Look, spread
from openwfm.extras import require

FLOW_CELL, VECTOR_CELL, BLOCK = 4, 16, 4  # pixels; BLOCK divides every block of H.264
# Least eigenvalue of the structure tensor, in OpenCV's scale, that can be tracked. 2e-4 leaves
# hardly a point on a wall: 55 of 60 calibration shots right, 58 with 2e-5, 57 with 3e-6 (noise).
TEXTURE = 2e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """How far the cells of a picture that can be tracked move within ``gap`` seconds from ``time``.

    ``points`` are positions from the picture's centre and ``moved`` displacements, in diagonals, as
    complex numbers (x right, y down); ``speeds`` are those of all cells, trackable or not, in
    diagonals a second, of one or several pictures of ``cells`` cells; ``pixel`` is what
    one pixel of measured displacement is worth in ``moved``.
    """

    points: Complex[np.ndarray, " p"]
    moved: Complex[np.ndarray, " p"]
    speeds: Float[np.ndarray, " q"]
    cells: int
    time: float
    gap: float
    pixel: float


def cell_centres(rows: int, columns: int, cell: int, height: int, width: int) -> np.ndarray:
    """Complex ``rows columns``, in diagonals from the middle of a picture of these pixels."""
    y = (np.arange(rows) + 0.5) * cell - height / 2
    x = (np.arange(columns) + 0.5) * cell - width / 2
    centres: np.ndarray = (x[None] + 1j * y[:, None]) / np.hypot(height, width)
    return centres


class FieldReader:
    """Reads fields with OpenCV on one thread."""

    def __init__(self) -> None:
        self._cv2: Any = require("cv2", extra="curation")
        self._cv2.setNumThreads(1)
        self._flow = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow(self, look: Look) -> list[Field]:
        """Dense inverse search (Kroeger et al. 2016) between the pictures of each pair."""
        triples = zip(look.pairs, look.pair_times.tolist(), look.gaps.tolist(), strict=True)
        return [self._flow_field(pair, time, gap) for pair, time, gap in triples]

    def _flow_field(self, pair: UInt8[np.ndarray, "2 y x"], time: float, gap: float) -> Field:
        height, width = pair.shape[1:]
        columns, rows = width // FLOW_CELL, height // FLOW_CELL
        flow = self._flow.calc(pair[0], pair[1], None)[: rows * FLOW_CELL, : columns * FLOW_CELL]
        cells = self._cv2.resize(flow, (columns, rows), interpolation=self._cv2.INTER_AREA)
        diagonal = float(np.hypot(height, width))
        moved = (cells[..., 0].astype(np.float64) + 1j * cells[..., 1]) / diagonal
        usable = self._textured(pair[0], FLOW_CELL)
        usable[:, [0, -1]] = usable[[0, -1]] = False  # flow at the border is extrapolated
        points = cell_centres(rows, columns, FLOW_CELL, height, width)
        return Field(
            points=points[usable],
            moved=moved[usable],
            speeds=np.abs(moved).ravel() / gap,
            cells=moved.size,
            time=time,
            gap=gap,
            pixel=1 / diagonal,
        )

    def _textured(self, grey: UInt8[np.ndarray, "y x"], cell: int) -> Bool[np.ndarray, "r c"]:
        rows, columns = (side // cell for side in grey.shape)
        strength = self._cv2.cornerMinEigenVal(grey, 2 * cell + 1, ksize=3)
        whole = strength[: rows * cell, : columns * cell]
        mean = self._cv2.resize(whole, (columns, rows), interpolation=self._cv2.INTER_AREA)
        textured: np.ndarray = mean > TEXTURE
        return textured

    def vectors(self, video: bytes) -> list[Field]:
        """From an encoded clip: the same number of moments as flow would look at, each from all
        predicted frames within a twelfth of a second.

        Frames of type P alone: they refer to the last frame that is not of type B, if the encoder
        used one reference frame (as Transcode does); longer references are outliers. Codecs whose
        decoder exports no vectors (HEVC, AV1) give an empty list.
        """
        predicted = list(_predicted_frames(video))
        if not predicted:
            return []
        first, last = predicted[0][0], predicted[-1][0]
        count = max(1, round((last - first) * PAIRS_PER_SECOND))
        times = np.array([time for time, _, _ in predicted])
        fields = []
        for start in sorted({times[at] for at in spread(len(times), count)}):
            near = (times >= start) & (times < start + PAIR_SECONDS - 1e-6)
            fields.append(self._vector_field([predicted[at] for at in np.flatnonzero(near)]))
        return fields

    def _vector_field(self, frames: list[tuple[float, float, VideoFrame]]) -> Field:
        points, moved, speeds = [], [], []
        for _, gap, frame in frames:
            grey = frame.to_ndarray(format="gray")
            mean, covered = average_vectors(_vectors(frame), *grey.shape)
            diagonal = float(np.hypot(*grey.shape))
            centres = cell_centres(*mean.shape, VECTOR_CELL, *grey.shape)
            usable = self._textured(grey, VECTOR_CELL) & (covered > 0.5)
            points.append(centres[usable])
            scale = PAIR_SECONDS / gap
            moved.append(mean[usable] / diagonal * scale)
            speeds.append(np.abs(mean).ravel() / diagonal / gap)
        return Field(
            points=np.concatenate(points),
            moved=np.concatenate(moved),
            speeds=np.concatenate(speeds),
            cells=speeds[0].size,
            time=frames[0][0],
            gap=PAIR_SECONDS,
            pixel=scale / diagonal,
        )


def _predicted_frames(video: bytes) -> Iterator[tuple[float, float, VideoFrame]]:
    """P-frames with vectors: seconds, seconds since the frame that it refers to, the frame."""
    with av.open(io.BytesIO(video), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"flags2": "+export_mvs"}
        reference: float | None = None
        for frame in container.decode(stream):
            if frame.time is None or frame.pict_type == PictureType.B:
                continue
            if frame.pict_type == PictureType.P and reference is not None:
                if any(isinstance(data, MotionVectors) for data in frame.side_data):
                    yield frame.time, frame.time - reference, frame
            reference = frame.time


def _vectors(frame: VideoFrame) -> np.ndarray:
    return next(d for d in frame.side_data if isinstance(d, MotionVectors)).to_ndarray()


def average_vectors(
    vectors: np.ndarray, height: int, width: int
) -> tuple[Complex[np.ndarray, "r c"], Float[np.ndarray, "r c"]]:
    """Mean displacement in pixels (x + iy, from the reference to this frame) of each whole 16×16
    cell, by area, and the share of its area that has a vector at all (intra blocks have none).

    ``vectors`` is libav's structured array; only references to the past count.
    """
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    total, count = np.zeros(rows * columns, complex), np.zeros(rows * columns)
    past = vectors[vectors["source"] < 0]
    # libav gives the vector from the block to where it came from, in parts of a pixel.
    moved = -(past["motion_x"].astype(float) + 1j * past["motion_y"]) / past["motion_scale"]
    top = (past["dst_y"].astype(int) - past["h"] // 2) // BLOCK
    left = (past["dst_x"].astype(int) - past["w"] // 2) // BLOCK
    sizes = np.stack([past["h"] // BLOCK, past["w"] // BLOCK], axis=-1).astype(int)
    for down, across in np.unique(sizes, axis=0).tolist():
        mine = (sizes == (down, across)).all(axis=1)
        for y, x in np.ndindex(down, across):
            row, column = top[mine] + y, left[mine] + x
            inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            at = row[inside] * columns + column[inside]
            np.add.at(total, at, moved[mine][inside])
            np.add.at(count, at, 1.0)
    share = _block_sums(count.reshape(rows, columns), height, width)
    mean = _block_sums(total.reshape(rows, columns), height, width) / np.maximum(share, 1)
    return mean, np.minimum(share / (VECTOR_CELL // BLOCK) ** 2, 1.0)


def _block_sums(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sums over whole cells of the values of their blocks."""
    side = VECTOR_CELL // BLOCK
    rows, columns = height // VECTOR_CELL, width // VECTOR_CELL
    whole = values[: rows * side, : columns * side]
    sums: np.ndarray = whole.reshape(rows, side, columns, side).sum(axis=(1, 3))
    return sums
