"""Stage: how the camera moves, and how much moves by itself. It decides nothing.

The pictures of a zoom and of a dolly, or of a pan and of a truck, differ by parallax alone. Tags
name what the picture shows (``zoom_in``, ``pan_left``); the score ``parallax`` tells them apart
as far as the scene has depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openwfm.curation.camera_fit import fit_camera
from openwfm.curation.camera_tags import LOST, CameraSeries
from openwfm.curation.fields import Field, FieldReader
from openwfm.curation.leftover import leftover
from openwfm.curation.record import Clip, Record

SOURCES = ("flow", "vectors")
TOLERANCE, SHARE = (
    0.5,
    0.15,
)  # a point follows the camera within so many pixels, and so much of itself


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """All of it for one clip: ``rows`` is what each pair of pictures showed, for evidence."""

    scores: dict[str, float]
    tags: tuple[str, ...]
    rows: list[list[float]]


class MeasureMotion:
    """Adds scores and tags of the camera from optical flow between the look's pairs, or from the
    motion vectors of the encoded clip (``source="vectors"``), which cost a decode but no flow.

    Scores: ``camera_x``, ``camera_y`` (diagonals a second that the content moves right and down),
    ``camera_zoom`` (logarithm of the scale a second), ``camera_roll`` (degrees a second, content
    clockwise), ``camera_shake`` (diagonals a second), ``camera_inliers`` (share of the trackable
    picture that the camera explains, 0 to 1), ``parallax`` (0: none; above about 0.05: depth),
    ``object_motion`` (share of the trackable picture that moves by itself, 0 to 1), ``flow_mean``
    and ``flow_p95`` (diagonals a second, of the whole picture). Vectors add ``vector_mean`` and
    ``vector_least``; see `vector_scores`.
    """

    name = "motion"
    accepts = Clip

    def __init__(self, source: str = "flow") -> None:
        if source not in SOURCES:
            raise ValueError(f"motion.source={source}: must be one of {', '.join(SOURCES)}")
        self.source = source
        self._reader: FieldReader | None = None

    def setup(self) -> None:
        self._reader = FieldReader()

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.media is not None
        assert self._reader is not None, "setup() comes first"
        if self.source == "flow":
            assert record.media.look is not None
            fields = self._reader.flow(record.media.look)
        else:
            fields = self._reader.vectors(record.media.video)
        motion = measure(fields)
        scores = motion.scores | (vector_scores(fields) if self.source == "vectors" else {})
        columns = [
            "seconds",
            "x",
            "y",
            "zoom",
            "roll",
            "inliers",
            "residual",
            "objects",
            "parallax",
        ]
        evidence: dict[str, Any] = {"source": self.source, "columns": columns, "pairs": motion.rows}
        return [
            replace(
                record,
                scores={**record.scores, **{k: round(v, 6) for k, v in scores.items()}},
                tags=(*record.tags, *motion.tags),
                evidence={**record.evidence, self.name: evidence},
            )
        ]


def measure(fields: Sequence[Field]) -> Motion:
    """Scores and tags of a clip from its displacement fields, in order of time."""
    rates, inliers, left, rows = [], [], [], []
    for field in fields:
        tolerance = TOLERANCE * field.pixel + SHARE * np.abs(field.moved)
        fit = fit_camera(field.points, field.moved, tolerance)
        inliers.append(0.0 if fit is None else fit.inliers)
        if fit is None:
            rates.append([0.0] * 4)
            continue
        parts = fit.shift.real, fit.shift.imag, np.log(fit.scale), np.degrees(fit.angle)
        rates.append([float(part) / field.gap for part in parts])
        rest = leftover(field.moved, fit.planar, field.pixel)
        if fit.inliers >= LOST:
            left.append(rest)
        also = fit.inliers, fit.residual / field.gap, rest.objects, rest.parallax
        rows.append([round(value, 6) for value in (field.time, *rates[-1], *also)])
    series = CameraSeries(rates=np.array(rates).reshape(-1, 4), inliers=np.array(inliers))
    speeds = np.concatenate([field.speeds for field in fields]) if fields else np.zeros(1)
    scores = series.scores() | {
        "parallax": float(np.mean([part.parallax for part in left] or [0.0])),
        "object_motion": float(np.mean([part.objects for part in left] or [0.0])),
        "flow_mean": float(speeds.mean()),
        "flow_p95": float(np.percentile(speeds, 95)),
    }
    return Motion(scores=scores, tags=series.tags(), rows=rows)


def vector_scores(fields: Sequence[Field]) -> dict[str, float]:
    """``vector_mean`` is the mean length of the vectors over all pictures and cells, and
    ``vector_least`` that of the cell with the least, both in diagonals a second.

    A still camera before one moving thing has a mean, but a least of zero: the second rejects it,
    so it is a score of its own (reference, section 5.1). Zeros when there are no vectors.
    """
    if not fields:
        return {"vector_mean": 0.0, "vector_least": 0.0}
    mean = np.mean([field.speeds.reshape(-1, field.cells).mean(axis=0) for field in fields], axis=0)
    return {"vector_mean": float(mean.mean()), "vector_least": float(mean.min())}
