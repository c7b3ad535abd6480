"""What the measuring stages see of a clip: small pictures of the *source*, taken in one pass.

Scores of the encoded clip would measure our own encoder and its crop; overlays stand at the very
edge that a crop removes. So the pictures are taken before cropping, scaling and encoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import Float, UInt8

from openwfm.curation.record import VideoFacts

STILLS_PER_SECOND, MIN_STILLS, MAX_STILLS = 2.0, 3, 24
STILL_SIDE = 640  # the longer side, at most: large enough to read text
PAIRS_PER_SECOND, MAX_PAIRS = 4.0, 96
PAIR_SECONDS = 1 / 12
PAIR_SIDE = 128  # the shorter side
THUMB_SIDE = 64  # the shorter side


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """Upright pictures of a clip with square pixels, uncropped; times are seconds from its start.

    ``stills``: at most 640 pixels long, about two a second (3 to 24), evenly spread.
    ``pairs``: grey, 128 pixels on the shorter side, four a second, ``gaps`` seconds apart: for
    optical flow. ``thumbs``: grey, 64 pixels on the shorter side, one for *each frame of the
    encoded clip*, of constant rate ``fps``.
    """

    fps: float
    stills: UInt8[np.ndarray, "n h w 3"]
    still_times: Float[np.ndarray, " n"]
    pairs: UInt8[np.ndarray, "m 2 y x"]
    pair_times: Float[np.ndarray, " m"]
    gaps: Float[np.ndarray, " m"]
    thumbs: UInt8[np.ndarray, "t v u"]

    @property
    def seconds(self) -> float:
        return len(self.thumbs) / self.fps


def spread(total: int, count: int) -> list[int]:
    """``count`` different indices below ``total``, evenly spread (all of them if fewer)."""
    count = min(count, total)
    return [int((index + 0.5) * total / count) for index in range(count)]


# One for each kind of picture: setting a scaler up costs as much as a hundred small frames.
Scalers = dict[tuple[float, str], VideoReformatter]


class LookTaker:
    """Call `see` with each frame of the clip in order, then `finish`.

    ``total`` is the number of frames that will come, ``fps`` their rate. Clips of one source
    should share ``scalers``.
    """

    def __init__(
        self, total: int, fps: float, facts: VideoFacts, scalers: Scalers | None = None
    ) -> None:
        self.fps, self.turns = fps, facts.rotation // 90
        self.size = max(2.0, facts.width * facts.pixel_aspect), max(2.0, float(facts.height))
        seconds = total / fps
        wanted = round(seconds * STILLS_PER_SECOND)
        self.stills_at = spread(total, min(max(wanted, MIN_STILLS), MAX_STILLS))
        self.gap = min(max(1, round(PAIR_SECONDS * fps)), max(total - 1, 1))
        count = min(max(1, round(seconds * PAIRS_PER_SECOND)), MAX_PAIRS)
        self.pairs_at = spread(total - self.gap, count) if total > self.gap else []
        self._stills: list[np.ndarray] = []
        self._firsts: dict[int, np.ndarray] = {}
        self._pairs: list[np.ndarray] = []
        self._thumbs: list[np.ndarray] = []
        self._last: VideoFrame | None = None
        self._scalers: Scalers = {} if scalers is None else scalers
        self._count = 0

    def see(self, frame: VideoFrame) -> None:
        """A frame object that comes several times in a row is scaled once."""
        index = self._count
        self._count += 1
        if frame is not self._last or not self._thumbs:
            self._thumbs.append(self._picture(frame, THUMB_SIDE / min(self.size), "gray"))
        else:
            self._thumbs.append(self._thumbs[-1])
        self._last = frame
        if index in self.stills_at:
            factor = min(1.0, STILL_SIDE / max(self.size))
            self._stills.append(self._picture(frame, factor, "rgb24"))
        starts, ends = index in self.pairs_at, index - self.gap in self._firsts
        if starts or ends:
            grey = self._picture(frame, PAIR_SIDE / min(self.size), "gray")
            if ends:
                self._pairs.append(np.stack([self._firsts.pop(index - self.gap), grey]))
            if starts:
                self._firsts[index] = grey

    def finish(self) -> Look:
        """Raises ValueError when not exactly ``total`` frames (at least one) came."""
        at = self.pairs_at[: len(self._pairs)]
        if not self._thumbs or len(self._stills) != len(self.stills_at):
            raise ValueError(f"look: {self._count} frames came, others were announced")
        thumbs = np.stack(self._thumbs)
        side = (PAIR_SIDE * np.array(thumbs.shape[1:]) / THUMB_SIDE).round().astype(int)
        empty = np.zeros((0, 2, *side), dtype=np.uint8)
        return Look(
            fps=self.fps,
            stills=np.stack(self._stills),
            still_times=np.array(self.stills_at, dtype=np.float64) / self.fps,
            pairs=np.stack(self._pairs) if self._pairs else empty,
            pair_times=np.array(at, dtype=np.float64) / self.fps,
            gaps=np.full(len(self._pairs), self.gap / self.fps),
            thumbs=thumbs,
        )

    def _picture(self, frame: VideoFrame, factor: float, pixels: str) -> np.ndarray:
        width, height = (max(1, round(side * factor)) for side in self.size)
        kind = Interpolation.AREA if factor < 1 else Interpolation.BICUBIC
        scaler = self._scalers.setdefault((factor, pixels), VideoReformatter())
        small = scaler.reformat(
            frame, width=width, height=height, format=pixels, interpolation=kind, threads=1
        )
        return np.ascontiguousarray(np.rot90(small.to_ndarray(), self.turns))
