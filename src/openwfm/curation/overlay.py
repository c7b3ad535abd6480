"""Stage "overlay": text laid over the film, told from text in the scene. It decides nothing.

An overlay stays where it is on the screen while the scene goes on; text in the scene moves with
the camera or with what bears it. So lines are looked for in the *median* of three neighbouring
stills, which keeps what stays and dissolves what moves, and a line must then be found at the same
pixels in the stills themselves. Overlays are level; a sign seen from the side is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from openwfm.curation.look import Look
from openwfm.curation.record import Clip, Record
from openwfm.curation.textboxes import TextDetector

WINDOW = 3  # stills
MAX_SPACING = 0.8  # seconds between stills up to which they are taken together
SAME_LINE = 0.5  # overlap (IoU) of a line's boxes in two windows
MAX_GAP = 2  # windows without a sighting within a track
ALIKE = 0.3  # correlation of details from which a still surely shows the same line
DOUBT = 4  # how fast a still of less correlation loses its vote
STEADY = 1.0  # pixels of drift at which a still votes half for; twice that in the corners
LEVEL = 4.0  # degrees of tilt that halve the confidence
REACH = 0.5  # of the height of a line: how far it is looked for
DETAIL = 2.0  # pixels: what is smoother, the scene behind a thin line, does not count for likeness
TALLEST = 1.5  # height over width, in pixels, of a line that can be an overlay
# Changes between ink and ground along a row: of any line, and of one higher than a fifth of the
# picture. The detector takes single things on a plain ground for large letters.
STROKES, MANY_STROKES, LARGE = 4, 8, 0.2
CORNER = 0.1  # of width and height
MAX_TRACKS = 12  # in the evidence


@dataclass(frozen=True, kw_only=True)
class Track:
    """A line of text over time. ``box``: left, top, right, bottom in shares (medians); ``seen``:
    in which windows; ``score`` the detector's; ``tilt`` in degrees; ``aspect`` width over height;
    ``strokes`` changes between ink and ground along its richest rows.

    One still is held against the others: ``shifts`` in pixels are how far the line has moved there,
    ``likeness`` the correlation (-1 to 1) of what was found.
    """

    box: tuple[float, float, float, float]
    seen: tuple[int, ...]
    score: float
    tilt: float
    aspect: float
    strokes: float
    shifts: tuple[float, ...]
    likeness: tuple[float, ...]

    @property
    def corner(self) -> bool:
        x, y = (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2
        return min(x, 1 - x) < 2 * CORNER and min(y, 1 - y) < CORNER

    @property
    def is_line(self) -> bool:
        """Wide enough, and with strokes enough, for a line of letters."""
        large = self.box[3] - self.box[1] > LARGE
        return self.aspect >= 1 / TALLEST and self.strokes >= (MANY_STROKES if large else STROKES)

    @property
    def steadiness(self) -> float:
        """In [0, 1]: the votes of the stills for the line being where it was, weighted by how sure
        it is that they show it; 0 if none of them surely does."""
        tolerance = STEADY * (2 if self.corner else 1)
        votes = 1 / (1 + (np.array(self.shifts) / tolerance) ** 4)
        alike = np.maximum(self.likeness, 0)
        if not ((alike >= ALIKE) & (votes >= 0.5)).any():
            return 0.0
        weights = alike**DOUBT
        return float(weights @ votes / weights.sum())

    @property
    def confidence(self) -> float:
        """In [0, 1], that this is an overlay: the detector's score times the steadiness, halved by
        a tilt of four degrees; 0 for what is no line of letters."""
        if not self.is_line:
            return 0.0
        return self.score * self.steadiness / (1 + (self.tilt / LEVEL) ** 4)


class FindText:
    """Adds ``overlay``, the confidence in [0, 1] that text was laid over the film, and what text
    covers, overlay or not: ``text_area`` (mean share of the picture) and ``text_boxes`` (mean
    number of lines)."""

    name = "overlay"
    accepts = Clip

    def __init__(self) -> None:
        self.detector: TextDetector | None = None

    def setup(self) -> None:
        self.detector = TextDetector()
        self.detector.cv2.setNumThreads(1)

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.media is not None
        assert record.media.look is not None and self.detector is not None
        scores, evidence = find_text(record.media.look, self.detector)
        return [
            replace(
                record,
                scores={**record.scores, **scores},
                evidence={**record.evidence, self.name: evidence},
            )
        ]


def find_text(look: Look, detector: TextDetector) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores and evidence of the stage."""
    windows = split_windows(look)
    lines = find_lines([look.stills[window] for window in windows], detector)
    tracks = link_lines(lines)
    found = sorted(
        (_track(detector.cv2, look, windows, lines, track) for track in tracks),
        key=lambda track: (-track.confidence, track.box),
    )
    areas = [(boxes[:, 2] - boxes[:, 0]) @ (boxes[:, 3] - boxes[:, 1]) for boxes in lines]
    scores = {
        "overlay": max((track.confidence for track in found), default=0.0),
        "text_area": min(1.0, float(np.mean(areas))),
        "text_boxes": float(np.mean([len(boxes) for boxes in lines])),
    }
    evidence = {
        "windows": [[window.start, window.stop] for window in windows],
        "tracks": [_plain(track) for track in found[:MAX_TRACKS]],
    }
    return {name: round(value, 6) for name, value in scores.items()}, evidence


def _plain(track: Track) -> dict[str, Any]:
    return {
        "box": [round(edge, 4) for edge in track.box],
        "seen": list(track.seen),
        "score": round(track.score, 4),
        "tilt": round(track.tilt, 2),
        "strokes": round(track.strokes, 1),
        "shifts": [round(shift, 2) for shift in track.shifts],
        "likeness": [round(value, 3) for value in track.likeness],
        "corner": track.corner,
        "confidence": round(track.confidence, 6),
    }


def split_windows(look: Look) -> list[slice]:
    """Threes of stills, the last one reaching back if it would be shorter; single stills where they
    are so far apart that a caption may be on one alone."""
    count = len(look.stills)
    spacing = (look.still_times[-1] - look.still_times[0]) / max(1, count - 1)
    length = WINDOW if spacing <= MAX_SPACING else 1
    if count <= length:
        return [slice(0, count)]
    starts = [min(start, count - length) for start in range(0, count, length)]
    return [slice(start, start + length) for start in starts]


def find_lines(
    groups: list[UInt8[np.ndarray, "n h w 3"]], detector: TextDetector
) -> list[Float[np.ndarray, "m 6"]]:
    """The detector's lines in the median of each group; equal medians are looked at once."""
    lines: list[np.ndarray] = []
    last: np.ndarray | None = None
    for group in groups:
        median = np.median(group, axis=0).astype(np.uint8)
        same = last is not None and np.array_equal(median, last)
        lines.append(lines[-1] if same else detector(median))
        last = median
    return lines


def overlap(one: Float[np.ndarray, " 4"], other: Float[np.ndarray, " 4"]) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:4], other[2:4])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = sum(float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


def link_lines(lines: list[Float[np.ndarray, "m 6"]]) -> list[list[tuple[int, int]]]:
    """Tracks as lists of (window, line): a line continues the track whose last box it overlaps
    most, at least by half."""
    tracks: list[list[tuple[int, int]]] = []
    for window, boxes in enumerate(lines):
        open_tracks = [track for track in tracks if window - track[-1][0] <= MAX_GAP]
        pairs = [
            (-overlap(lines[track[-1][0]][track[-1][1]], box), place, index)
            for place, track in enumerate(open_tracks)
            for index, box in enumerate(boxes)
        ]
        taken: set[int] = set()
        continued: set[int] = set()
        for negative, place, index in sorted(pairs):
            if -negative >= SAME_LINE and index not in taken and place not in continued:
                open_tracks[place].append((window, index))
                taken.add(index)
                continued.add(place)
        tracks += [[(window, index)] for index in range(len(boxes)) if index not in taken]
    return tracks


def _track(
    cv2: Any,
    look: Look,
    windows: list[slice],
    lines: list[Float[np.ndarray, "m 6"]],
    track: list[tuple[int, int]],
) -> Track:
    rows = np.stack([lines[window][index] for window, index in track])
    window, index = track[int(rows[:, 4].argmax())]
    span = slice(windows[track[0][0]].start, windows[track[-1][0]].stop)
    group, line = look.stills[windows[window]], lines[window][index]
    shifts, likeness, strokes = compare(cv2, look.stills[span], group, line)
    left, top, right, bottom = np.median(rows[:, :4], axis=0).tolist()
    height, width = look.stills.shape[1:3]
    return Track(
        box=(left, top, right, bottom),
        seen=tuple(seen for seen, _ in track),
        score=float(rows[:, 4].mean()),
        tilt=float(np.median(rows[:, 5])),
        aspect=(right - left) * width / max((bottom - top) * height, 1e-9),
        strokes=strokes,
        shifts=tuple(shifts),
        likeness=tuple(likeness),
    )


def compare(
    cv2: Any,
    stills: UInt8[np.ndarray, "n h w 3"],
    group: UInt8[np.ndarray, "m h w 3"],
    box: Float[np.ndarray, " 6"],
) -> tuple[list[float], list[float], float]:
    """How far (pixels) the content of ``box`` has moved in each of ``stills``, how well its details
    match there (correlation), and its strokes. It is taken from that still of ``group`` which is
    most like their median, and not compared with itself: in a median, what moves leaves ghosts that
    stay.
    """
    height, width = stills.shape[1:3]
    rows = slice(int(box[1] * height), int(np.ceil(box[3] * height)))
    columns = slice(int(box[0] * width), int(np.ceil(box[2] * width)))
    median = _details(cv2, np.median(group, axis=0).astype(np.uint8))[rows, columns]
    details = [_details(cv2, still) for still in group]
    alike = [_match(cv2, picture[rows, columns], median)[0] for picture in details]
    best = int(np.argmax(alike))
    likest = details[best][rows, columns]
    reach = max(3, round(REACH * likest.shape[0]))
    shifts, likeness, itself = [], [], False
    for still in stills:
        if not itself and np.array_equal(still, group[best]):
            itself = True
            continue
        edges = reach, reach, reach, reach
        wide = cv2.copyMakeBorder(_details(cv2, still), *edges, cv2.BORDER_REPLICATE)
        area = wide[rows.start : rows.stop + 2 * reach, columns.start : columns.stop + 2 * reach]
        value, (x, y) = _match(cv2, area, likest)
        shifts.append(float(np.hypot(x - reach, y - reach)))
        likeness.append(value)
    return shifts, likeness, count_strokes(cv2, group[best][rows, columns])


def count_strokes(cv2: Any, crop: UInt8[np.ndarray, "y x 3"]) -> float:
    """Changes between dark and light along a row (Otsu's threshold), in the richest tenth."""
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
    _, ink = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(np.quantile((ink[:, 1:] != ink[:, :-1]).sum(axis=1), 0.9))


def _details(cv2: Any, picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Grey, without what is smooth."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), DETAIL)


def _match(
    cv2: Any, area: Float[np.ndarray, "h w"], pattern: Float[np.ndarray, "y x"]
) -> tuple[float, tuple[int, int]]:
    """The highest correlation of the pattern with a place in the area, and that place (x, y)."""
    match = cv2.matchTemplate(area, np.ascontiguousarray(pattern), cv2.TM_CCOEFF_NORMED)
    match = np.nan_to_num(match, nan=0.0, posinf=0.0, neginf=0.0)
    _, value, _, place = cv2.minMaxLoc(match)
    return min(float(value), 1.0), place
