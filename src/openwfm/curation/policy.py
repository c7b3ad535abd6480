"""The policy: thresholds on scores that were measured elsewhere, and nothing else.

Deciding is separate from measuring, so another policy needs no second look at the video.
"""

from __future__ import annotations

from dataclasses import dataclass

from openwfm.curation.record import Clip


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which clips are kept.

    ``max_frozen`` is the largest share of frames that repeat the one before; ``min_moving`` the
    smallest share of pixels that change within the clip; ``min_luma`` (0 to 255) the least
    brightness that the brightest twentieth of the pixels must reach; ``duplicate_distance`` the
    mean grey-level difference (0 to 255) of aligned thumbnails below which two clips are one.
    """

    min_seconds: float
    max_seconds: float
    max_frozen: float
    min_moving: float
    min_luma: float
    duplicate_distance: float

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds <= self.max_seconds:
            raise ValueError(
                f"policy.min_seconds={self.min_seconds}: must be above 0 and at most "
                f"policy.max_seconds={self.max_seconds}"
            )
        for name in ("max_frozen", "min_moving"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"policy.{name}={value}: must be in [0, 1] (a share)")
        for name in ("min_luma", "duplicate_distance"):
            value = getattr(self, name)
            if not 0 <= value <= 255:
                raise ValueError(f"policy.{name}={value}: must be in [0, 255] (grey levels)")

    def duration(self, clip: Clip) -> tuple[str, str] | None:
        """Reason and detail when the shot is too short, else None."""
        if clip.seconds < self.min_seconds:
            return "too_short", f"{clip.seconds:.3f} s, at least {self.min_seconds} s wanted"
        return None

    def content(self, clip: Clip) -> tuple[str, str] | None:
        """Reason and detail of the first score out of bounds, else None."""
        scores = clip.scores
        if scores["luma_p95"] < self.min_luma:
            return "black", f"luma_p95={scores['luma_p95']:.2f} below {self.min_luma}"
        if scores["frozen"] > self.max_frozen:
            return "frozen", f"frozen={scores['frozen']:.3f} above {self.max_frozen}"
        if scores["moving"] < self.min_moving:
            return "static", f"moving={scores['moving']:.4f} below {self.min_moving}"
        return None
