"""Truth beside the video: round trips, refusals, and bytes that never unpickle."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.data.members import (
    ActionTrack,
    CameraTrack,
    action_bytes,
    camera_bytes,
    npz_bytes,
    read_action,
    read_camera,
    read_npz,
    read_trajectory,
    trajectory_bytes,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 8), st.integers(0, 2**31))
def test_actions_come_back_as_they_were(steps: int, width: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    track = ActionTrack(
        values=draw.normal(size=(steps, width)).astype(np.float32),
        names=tuple(f"joint {i} é" for i in range(width)),
        units=("rad",) * width,
        rate=5.0,
    )
    data = action_bytes(track)
    assert data == action_bytes(track)
    back = read_action(data)
    np.testing.assert_array_equal(back.values, track.values)
    assert (back.names, back.units, back.rate) == (track.names, track.units, track.rate)


def test_cameras_of_one_and_of_many_views() -> None:
    draw = np.random.default_rng(0)
    tracks = {
        view: CameraTrack(
            intrinsics=draw.normal(size=(5, 3, 3)), camera_to_world=draw.normal(size=(5, 4, 4))
        )
        for view in ("front", "rear")
    }
    back = read_camera(camera_bytes(tracks))
    assert list(back) == ["front", "rear"]
    for view, track in tracks.items():
        np.testing.assert_array_equal(back[view].intrinsics, track.intrinsics)
    single = read_npz(camera_bytes({"main": tracks["rear"]}), "camera.npz")
    assert single["intrinsics"].shape == (5, 3, 3) and "views" not in single


def test_what_is_refused() -> None:
    eye = np.broadcast_to(np.eye(4), (3, 4, 4))
    with pytest.raises(ValueError, match=r"camera.camera_to_world: shape \(3, 4, 4\): must be \(2"):
        CameraTrack(intrinsics=np.zeros((2, 3, 3)), camera_to_world=eye)
    with pytest.raises(ValueError, match="action.values"):
        ActionTrack(values=np.zeros((3, 2)), names=("x",), units=("m",), rate=5.0)
    with pytest.raises(ValueError, match="finite"):
        trajectory_bytes(np.full((64, 3), np.nan))
    with pytest.raises(ValueError, match="must be"):
        trajectory_bytes(np.zeros((63, 3)))
    with pytest.raises(ValueError, match="must not hold objects"):
        npz_bytes({"x": np.array([{}])})


class Bomb:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (pytest.fail, ("was unpickled",))


@pytest.mark.parametrize("kind", ["object array", "pickle", "truncated", "noise"])
def test_hostile_bytes_are_named_and_never_executed(kind: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, values=np.array([Bomb()], dtype=object))
    good = trajectory_bytes(np.zeros((64, 3)))
    data = {
        "object array": buffer.getvalue(),
        "pickle": pickle.dumps(Bomb()),
        "truncated": good[: len(good) // 2],
        "noise": np.random.default_rng(0).bytes(500),
    }[kind]
    with pytest.raises(ValueError, match=r"action.npz|trajectory.npz"):
        read_action(data)
    with pytest.raises(ValueError, match=r"trajectory.npz"):
        read_trajectory(data)
