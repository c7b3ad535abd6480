"""From the camera's motion between pairs of pictures to scores and words for the whole clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from openwfm.curation.camera_fit import RMS_RADIUS

# Speeds in diagonals a second; zoom and roll count by what they do to a picture's points (root
# mean square), so that all four compare. docs/curation/camera.md: how they were chosen.
MOVES = 0.016  # below: not a movement
SECOND = 0.45  # a further movement is named from this share of the strongest one's speed on
SMOOTH = 4  # pairs (a second): a movement lasts longer than this, shake does not
SHAKES, SHAKES_OF_DRIFT = 0.02, 0.35
ERRATIC = 0.25
LOST, LOST_SHARE = 0.4, 0.2  # inliers of a pair, and the share of pairs with fewer
DIRECTIONS = (
    ("pan_left", "pan_right"),
    ("tilt_up", "tilt_down"),
    ("zoom_in", "zoom_out"),
    ("roll", "roll"),
)
TAGS = (*dict.fromkeys(sum(DIRECTIONS, ())), "handheld", "erratic", "static_camera")


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraSeries:
    """The camera between the ``m`` pairs of pictures of a clip, in order.

    ``rates`` are x and y (diagonals a second that the picture's content moves right and down), the
    logarithm of its scale a second, and its turn in degrees a second, clockwise as seen.
    ``inliers`` is the share of the trackable picture that follows: 0 where nothing can be tracked.
    Rates with fewer than LOST (a cut, a failed flow) count for nothing but the tag ``erratic``.
    """

    rates: Float[np.ndarray, "m 4"]
    inliers: Float[np.ndarray, " m"]

    @property
    def speeds(self) -> Float[np.ndarray, "n 4"]:
        """Trusted rates as speeds of the picture's points, in diagonals a second (root mean
        square)."""
        trusted = self.rates[self.inliers >= LOST]
        return trusted * (1.0, 1.0, RMS_RADIUS, RMS_RADIUS * np.pi / 180)

    def shake(self) -> float:
        """Diagonals a second: the root mean square of what is not a smooth movement.

        Second differences are blind to speed and to steady acceleration; of independent velocities
        they have six times the variance (1 + 4 + 1).
        """
        speeds = self.speeds
        if len(speeds) < 3:
            return 0.0
        bends = np.diff(speeds, n=2, axis=0)
        return float(np.sqrt((bends**2).sum(axis=1).mean() / 6))

    def scores(self) -> dict[str, float]:
        """Mean rates, shake, and mean inliers; zeros when nothing could be tracked."""
        trusted = self.rates[self.inliers >= LOST]
        x, y, zoom, roll = trusted.mean(axis=0) if len(trusted) else np.zeros(4)
        return {
            "camera_x": float(x),
            "camera_y": float(y),
            "camera_zoom": float(zoom),
            "camera_roll": float(roll),
            "camera_shake": self.shake(),
            "camera_inliers": float(self.inliers.mean()) if len(self.inliers) else 0.0,
        }

    def tags(self) -> tuple[str, ...]:
        """Words for the camera, the strongest first; none when nothing could be tracked.

        The picture moves against the camera: content that drifts to the right is a pan to the left.
        """
        if not (self.inliers > 0).any():
            return ()
        shake = self.shake()
        if shake > ERRATIC or float((self.inliers < LOST).mean()) > LOST_SHARE:
            return ("erratic",)
        strengths = self._strengths()
        top = max(strengths.values())
        least = max(MOVES, SECOND * top, shake / 2)
        turns = max(strengths[tag] for tag in ("zoom_in", "zoom_out", "roll"))
        found = [
            (strength, tag)
            for tag, strength in strengths.items()
            # A zoom or roll whose fixed point is in the picture but not in its middle shifts it.
            if strength > (max(least, turns) if tag.startswith(("pan", "tilt")) else least)
        ]
        if shake > max(SHAKES, SHAKES_OF_DRIFT * top):
            found.append((shake, "handheld"))
        return tuple(tag for _, tag in sorted(found, reverse=True)) or ("static_camera",)

    def _strengths(self) -> dict[str, float]:
        """Mean speed in each direction of the smoothed movement: a pan to the left and back again
        is both, not nothing."""
        speeds = self.speeds
        window = min(SMOOTH, len(speeds))
        parts = np.lib.stride_tricks.sliding_window_view(speeds, window, axis=0).mean(axis=-1)
        ahead, back = np.maximum(parts, 0).mean(axis=0), np.maximum(-parts, 0).mean(axis=0)
        strengths: dict[str, float] = {}
        for (one, other), plus, minus in zip(DIRECTIONS, ahead, back, strict=True):
            for tag, value in ((one, float(plus)), (other, float(minus))):
                strengths[tag] = max(value, strengths.get(tag, 0.0))
        return strengths
