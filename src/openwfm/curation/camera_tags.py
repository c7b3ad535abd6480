"""From the camera's motion between pairs of pictures to scores and words for the whole clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from openwfm.curation.camera_fit import RMS_RADIUS

# Speeds in diagonals a second; zoom and roll count by what they do to a picture's points (root
# mean square), so that all four can be compared. Calibrated by openwfm.benchmarks.camera_tags.
MOVES = 0.02  # below: not a movement
SECOND = 0.45  # a further movement is named when it has this share of the strongest one's speed
SHAKES, SHAKES_OF_DRIFT = 0.02, 0.25
ERRATIC = 0.25
LOST = 0.4  # inliers
LOST_SHARE = 0.2  # of the pairs
TAGS = (
    "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out", "roll", "handheld",
    "erratic", "static_camera",
)  # fmt: skip
_WORDS = (("pan_left", "pan_right"), ("tilt_up", "tilt_down"), ("zoom_in", "zoom_out"))


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraSeries:
    """``rates`` are x and y (diagonals a second that the picture's content moves right and down),
    the logarithm of its scale a second, and its turn in degrees a second, clockwise as seen.
    ``inliers`` is the share of the trackable picture that follows (0 where nothing can be told,
    with rates of 0)."""

    rates: Float[np.ndarray, "m 4"]
    inliers: Float[np.ndarray, " m"]

    @property
    def speeds(self) -> Float[np.ndarray, "m 4"]:
        """Rates as speeds of the picture's points, in diagonals a second (root mean square)."""
        return self.rates * (1.0, 1.0, RMS_RADIUS, RMS_RADIUS * np.pi / 180)

    def shake(self) -> float:
        """Diagonals a second: the root mean square of what is not a smooth movement.

        Second differences are blind to speed and acceleration; their variance is six times that of
        independent velocities (binomial weights 1, -2, 1).
        """
        if len(self.rates) < 3:
            return 0.0
        bends = np.diff(self.speeds, n=2, axis=0)
        return float(np.sqrt((bends**2).sum(axis=1).mean() / 6))

    def scores(self) -> dict[str, float]:
        x, y, zoom, roll = self.rates.mean(axis=0) if len(self.rates) else (0.0,) * 4
        return {
            "camera_x": x,
            "camera_y": y,
            "camera_zoom": zoom,
            "camera_roll": roll,
            "camera_shake": self.shake(),
            "camera_inliers": float(self.inliers.mean()) if len(self.inliers) else 0.0,
        }

    def tags(self) -> tuple[str, ...]:
        """Words for the camera, the strongest first; none when nothing could be tracked.

        The picture moves against the camera: content that drifts to the right is a pan to the left.
        """
        if not (self.inliers > 0).any():
            return ()
        drift, shake = self.speeds.mean(axis=0), self.shake()
        lost = float((self.inliers < LOST).mean())
        if shake > ERRATIC or lost > LOST_SHARE:
            return ("erratic",)
        top = float(np.abs(drift).max())
        least = max(MOVES, SECOND * top)
        found = [
            (abs(speed), (*_WORDS, ("roll", "roll"))[index][0 if speed > 0 else 1])
            for index, speed in enumerate(drift)
            if abs(speed) > least
        ]
        if shake > max(SHAKES, SHAKES_OF_DRIFT * top):
            found.append((shake, "handheld"))
        return tuple(tag for _, tag in sorted(found, reverse=True)) or ("static_camera",)
