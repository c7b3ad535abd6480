from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openwfm.simulation.lens import Lens
from openwfm.simulation.rooms.config import MOTIONS
from openwfm.simulation.rooms.layout import Room, draw_room
from openwfm.simulation.rooms.parts import Solids, Thing, box
from openwfm.simulation.rooms.paths import CLEARANCE, CameraPath, draw_path
from openwfm.simulation.worlds import ClipRejectedError

LENS = Lens(width=64, height=48, fovy=60)
FPS = 24
SECONDS = np.arange(57) / FPS
Drawn = list[tuple[Room, CameraPath]]


@pytest.fixture(scope="module", params=MOTIONS)
def drawn(request: pytest.FixtureRequest) -> Drawn:
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        room = draw_room(rng, ("living room", "garden", "bedroom")[seed % 3])
        path = draw_path(rng, room, Solids.of(room.things), request.param, LENS, SECONDS)
        found.append((room, path))
    return found


def test_poses_are_rigid_and_upright(drawn: Drawn) -> None:
    for _, path in drawn:
        turns = path.poses[:, :3, :3]
        np.testing.assert_allclose(
            turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12
        )
        np.testing.assert_allclose(np.linalg.det(turns), 1)
        # The picture's x axis is level and its y axis points downwards.
        np.testing.assert_allclose(turns[:, 2, 0], 0, atol=1e-12)
        assert (turns[:, 2, 1] < 0).all()


def test_the_camera_keeps_clear_of_every_part(drawn: Drawn) -> None:
    for room, path in drawn:
        for thing in room.things:
            for part in thing.parts:
                half = Solids.of([Thing(name="", parts=(part,))]).halves[0]
                local = (path.poses[:, :3, 3] - part.position) @ part.rotation
                gap = np.linalg.norm(local - np.clip(local, -half, half), axis=1)
                assert gap.min() > CLEARANCE - 1e-9, thing.name


def test_paths_are_smooth(drawn: Drawn) -> None:
    """Metres and radians: speed, acceleration and jerk stay those of a held camera."""
    for _, path in drawn:
        eyes, sights = path.poses[:, :3, 3], path.poses[:, :3, 2]
        for values, speed, acceleration, jerk in ((eyes, 2.5, 4.0, 40.0), (sights, 1.2, 2.5, 25.0)):
            for order, limit in ((1, speed), (2, acceleration), (3, jerk)):
                rates = np.diff(values, n=order, axis=0) * FPS**order
                assert np.linalg.norm(rates, axis=1).max() < limit, (path.motion, order)


def test_a_motion_goes_where_it_says(drawn: Drawn) -> None:
    for _, path in drawn:
        eyes, sights = path.poses[:, :3, 3], path.poses[:, :3, 2]
        moved = eyes[-1] - eyes[0]
        right, forward = path.poses[0, :3, 0], path.poses[0, :3, 2]
        yaw = np.unwrap(np.arctan2(sights[:, 1], sights[:, 0]))
        turned = np.degrees(yaw[-1] - yaw[0])
        if path.motion in ("pan", "tilt"):
            assert path.length == pytest.approx(0, abs=1e-9)
        else:
            assert path.length > 0.3
        sign = {"left": -1, "right": 1, "up": 1, "down": -1, "forward": 1, "back": -1}
        side = sign[path.direction]
        if path.motion == "orbit":
            assert side * moved @ right > 0 and side * turned > 5
        elif path.motion == "dolly":
            assert side * moved @ forward > 0.3 and abs(moved @ right) < 1e-9
        elif path.motion == "truck":
            assert side * moved @ right > 0.3 and abs(moved @ forward) < 1e-9
        elif path.motion == "pan":
            assert -side * turned > 5 and np.ptp(sights[:, 2]) < 1e-9
        elif path.motion == "tilt":
            assert side * (sights[-1, 2] - sights[0, 2]) > 0.1 and abs(turned) < 1e-9
        elif path.direction == "forward":
            assert moved @ forward > 0.9 * path.length and abs(turned) < 1e-9
        else:
            assert moved @ forward > 0 and -side * turned > 5


def test_an_orbit_keeps_its_distance_and_looks_at_one_point() -> None:
    rng = np.random.default_rng(3)
    room = draw_room(rng, "courtyard")
    path = draw_path(rng, room, Solids.of(room.things), "orbit", LENS, SECONDS)
    eyes, sights = path.poses[:, :3, 3], path.poses[:, :3, 2]
    # The point nearest to all lines of sight, by least squares.
    across = np.eye(3) - np.einsum("ti,tj->tij", sights, sights)
    point = np.linalg.solve(across.sum(0), np.einsum("tij,tj->i", across, eyes))
    gaps = np.einsum("tij,tj->ti", across, point - eyes)
    assert np.abs(gaps).max() < 1e-9
    assert np.ptp(np.linalg.norm(eyes - point, axis=1)) < 1e-9


def test_a_crammed_room_is_rejected() -> None:
    room = draw_room(np.random.default_rng(0), "study")
    crate = Thing(name="crate", parts=(box((0, 0, 1.2), (2.8, 2.8, 1.1), "wood"),))
    crammed = replace(room, things=(*room.things, crate))
    with pytest.raises(ClipRejectedError, match="no clear dolly") as caught:
        draw_path(
            np.random.default_rng(0), crammed, Solids.of(crammed.things), "dolly", LENS, SECONDS
        )
    assert caught.value.reason == "blocked"
