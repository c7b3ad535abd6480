"""Words from series of camera motion: symmetries, and what must not be confused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.camera_fit import RMS_RADIUS
from openwfm.curation.camera_tags import TAGS, CameraSeries

OPPOSITE = {
    "pan_left": "pan_right", "tilt_up": "tilt_down", "zoom_in": "zoom_out", "roll": "roll",
    "handheld": "handheld", "erratic": "erratic", "static_camera": "static_camera",
}  # fmt: skip
OPPOSITE |= {other: one for one, other in OPPOSITE.items()}


def series(*rates: list[float] | np.ndarray, inliers: float = 0.9) -> CameraSeries:
    data = np.concatenate([np.atleast_2d(np.asarray(part, float)) for part in rates])
    return CameraSeries(rates=data, inliers=np.full(len(data), inliers))


def steady(x: float = 0.0, y: float = 0.0, zoom: float = 0.0, roll: float = 0.0) -> np.ndarray:
    return np.tile([x, y, zoom, roll], (12, 1))


@pytest.mark.parametrize(
    "rates, tags",
    [
        (steady(), ("static_camera",)),
        (steady(x=0.1), ("pan_left",)),
        (steady(x=-0.1), ("pan_right",)),
        (steady(y=0.1), ("tilt_up",)),
        (steady(y=-0.1), ("tilt_down",)),
        (steady(zoom=0.2), ("zoom_in",)),
        (steady(zoom=-0.2), ("zoom_out",)),
        (steady(roll=8), ("roll",)),
        (steady(roll=-8), ("roll",)),
        (steady(x=0.1, y=-0.09), ("pan_left", "tilt_down")),
        (steady(x=-0.1, zoom=0.2), ("pan_right", "zoom_in")),
        (steady(x=0.02, zoom=0.2), ("zoom_in",)),
        # The fixed point of this zoom is in the picture, above its middle: no tilt.
        (steady(y=0.05, zoom=0.2), ("zoom_in",)),
        # To the left for five seconds, and back: not a still camera.
        (np.outer(np.sin(np.arange(40) * np.pi / 20), [0.1, 0, 0, 0]), ("pan_left", "pan_right")),
    ],
)
def test_words(rates: np.ndarray, tags: tuple[str, ...]) -> None:
    found = series(rates).tags()
    assert found == tags or (set(found) == set(tags) == {"pan_left", "pan_right"})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.4), st.floats(0, 0.2), st.integers(1, 40))
def test_a_mirrored_camera_has_the_opposite_tags(
    seed: int, drift: float, shake: float, num: int
) -> None:
    rng = np.random.default_rng(seed)
    rates = drift * rng.normal(size=4) + shake * rng.normal(size=(num, 4))
    rates *= (1, 1, 1 / RMS_RADIUS, 180 / np.pi / RMS_RADIUS)
    one, other = series(rates), series(-rates)
    assert tuple(OPPOSITE[tag] for tag in one.tags()) == other.tags()
    assert one.shake() == pytest.approx(other.shake())
    assert set(one.tags()) <= set(TAGS) and len(set(one.tags())) == len(one.tags())
    assert (series(rates[::-1]).shake()) == pytest.approx(one.shake(), abs=1e-12)


def test_shake_is_that_of_independent_velocities() -> None:
    rng = np.random.default_rng(0)
    shaken = np.zeros((20000, 4))
    shaken[:, 0] = rng.normal(0, 0.05, 20000)
    assert series(shaken).shake() == pytest.approx(0.05, rel=0.03)


def test_smooth_acceleration_is_no_shake() -> None:
    time = np.linspace(0, 1, 12)
    ramp = np.outer(0.3 * time, [1, 0.5, 0, 0])
    assert series(ramp).shake() < 1e-12
    assert series(ramp).tags() == ("pan_left", "tilt_up")


@pytest.mark.parametrize("speed, tags", [(0.06, ("handheld",)), (0.5, ("erratic",))])
def test_shakes(speed: float, tags: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    rates = rng.normal(0, 1, (24, 4)) * (speed, speed, 0, 0)
    assert series(rates - rates.mean(axis=0)).tags() == tags


def test_uneven_steps_of_a_pan_are_not_a_shaking_hand() -> None:
    """A video of 30 frames a second, seen at 24: every gap of two frames is two or three."""
    rates = steady(x=0.1) * np.array([0.8, 1.2])[np.arange(12) % 2][:, None]
    assert series(rates).tags() == ("pan_left",)


@pytest.mark.parametrize("share, erratic", [(0.1, False), (0.3, True)])
def test_pictures_that_follow_no_camera_are_erratic(share: float, erratic: bool) -> None:
    inliers = np.where(np.arange(20) < 20 * share, 0.2, 0.9)
    found = CameraSeries(rates=np.zeros((20, 4)), inliers=inliers).tags()
    assert found == (("erratic",) if erratic else ("static_camera",))


def test_nothing_to_track_is_no_tag_and_zero_scores() -> None:
    nothing = CameraSeries(rates=np.zeros((5, 4)), inliers=np.zeros(5))
    assert nothing.tags() == () and set(nothing.scores().values()) == {0.0}
    assert CameraSeries(rates=np.zeros((0, 4)), inliers=np.zeros(0)).tags() == ()


def test_a_cut_within_a_clip_moves_no_camera() -> None:
    rates, inliers = steady(x=0.1), np.full(12, 0.9)
    rates[5], inliers[5] = (0.9, -0.7, 1.0, 40), 0.15
    cut = CameraSeries(rates=rates, inliers=inliers)
    assert cut.tags() == ("pan_left",) and cut.shake() < 1e-12
    assert cut.scores()["camera_x"] == pytest.approx(0.1)


def test_scores_are_means() -> None:
    scores = series([[0.1, -0.2, 0.3, 4.0]], [[0.3, 0.2, -0.1, 0.0]]).scores()
    assert [scores[f"camera_{k}"] for k in ("x", "y", "zoom", "roll")] == pytest.approx(
        [0.2, 0.0, 0.1, 2.0]
    )
    assert scores["camera_shake"] == 0 and scores["camera_inliers"] == 0.9
