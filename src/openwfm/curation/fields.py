"""Displacement fields of pictures: from optical flow, or from the vectors that a codec stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Complex, Float, UInt8

from openwfm.curation.look import PAIR_SECONDS, PAIRS_PER_SECOND, Look
from openwfm.curation.vectors import CELL as VECTOR_CELL
from openwfm.curation.vectors import average_vectors, predicted_frames
from openwfm.extras import require

FLOW_CELL = 4  # pixels
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
        """From an encoded clip: four moments a second, as flow would look at, each from all
        predicted frames within a twelfth of a second, or from one if they are farther apart.

        Frames of type P alone: they refer to the last frame that is not of type B, if the encoder
        used one reference frame (as Transcode does); longer references are outliers. Codecs whose
        decoder exports no vectors (HEVC, AV1) give an empty list.
        """
        fields: list[Field] = []
        cells: list[Field] = []
        quarter, start = -1, 0.0
        for time, gap, frame, vectors in predicted_frames(video):
            now = int(time * PAIRS_PER_SECOND)
            if now != quarter:
                fields += _joined(cells)
                quarter, start, cells = now, (now + 0.5) / PAIRS_PER_SECOND, []
            # 1e-6: times are floats, and a frame may fall on the end of the span.
            if time > start - 1e-6 and (not cells or time < start + PAIR_SECONDS - 1e-6):
                grey = frame.to_ndarray(format="gray")
                cells.append(self._vector_field(time, gap, grey, vectors))
        return fields + _joined(cells)

    def _vector_field(
        self, time: float, gap: float, grey: UInt8[np.ndarray, "y x"], vectors: np.ndarray
    ) -> Field:
        height, width = grey.shape
        mean, covered = average_vectors(vectors, height, width)
        usable = self._textured(grey, VECTOR_CELL) & (covered > 0.5)
        diagonal = float(np.hypot(height, width))
        # As long as it would be between the pictures of a pair.
        scale = PAIR_SECONDS / gap / diagonal
        return Field(
            points=cell_centres(mean.shape[0], mean.shape[1], VECTOR_CELL, height, width)[usable],
            moved=mean[usable] * scale,
            speeds=np.abs(mean).ravel() / diagonal / gap,
            cells=mean.size,
            time=time,
            gap=PAIR_SECONDS,
            pixel=scale,
        )


def _joined(fields: list[Field]) -> list[Field]:
    """One field with the cells of all, at the first one's time; none of none."""
    if not fields:
        return []
    return [
        replace(
            fields[0],
            points=np.concatenate([field.points for field in fields]),
            moved=np.concatenate([field.moved for field in fields]),
            speeds=np.concatenate([field.speeds for field in fields]),
        )
    ]
