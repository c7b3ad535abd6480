import math

import numpy as np
import pytest

from openwfm.simulation.bodies import (
    SHAPES,
    Body,
    bounding_radius,
    half_extents,
    rotate_back,
    unit_inertia,
    volume,
    world_half_extents,
)
from openwfm.simulation.scenarios import HALF_TABLE, MAX_BODIES, SCENARIOS, draw_scene

SIZE = (0.31, 0.47, 0.6)


@pytest.mark.parametrize("shape", SHAPES)
def test_mass_and_inertia_are_those_of_mujocos_own_compiler(shape: str) -> None:
    mujoco = pytest.importorskip("mujoco")
    size = " ".join(map(str, SIZE))
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody><body><freejoint/><geom type='{shape}' size='{size}'"
        " density='1'/></body></worldbody></mujoco>"
    )
    assert volume(shape, SIZE) == pytest.approx(model.body_mass[1], rel=1e-9)
    inertia = np.asarray(unit_inertia(shape, SIZE)) * model.body_mass[1]
    # The compiler sorts the principal axes; ours stay with the body's x, y and z.
    np.testing.assert_allclose(sorted(inertia), sorted(model.body_inertia[1]), rtol=1e-9)
    assert bounding_radius(shape, SIZE) == pytest.approx(model.geom_rbound[0], rel=1e-6)
    np.testing.assert_allclose(half_extents(shape, SIZE), model.geom_aabb[0, 3:], rtol=1e-6)


def test_rotate_back_undoes_a_quarter_turn_about_z() -> None:
    quarter = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))
    np.testing.assert_allclose(rotate_back(quarter, (0.0, 1.0, 0.0)), (1, 0, 0), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_world_half_extents_hold_every_point_of_the_surface_tightly(shape: str) -> None:
    rng = np.random.default_rng(0)
    rotation = rng.normal(size=4)
    rotation /= np.linalg.norm(rotation)
    body = Body(shape=shape, size=SIZE, colour="red", position=(0, 0, 0), rotation=tuple(rotation))
    directions = rng.normal(size=(40_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    a, b, _ = SIZE
    if shape == "box":
        points = np.sign(directions) * SIZE
    elif shape == "ellipsoid":
        points = directions * SIZE
    elif shape == "sphere":
        points = directions * a
    elif shape == "capsule":
        points = directions * a + np.sign(directions[:, 2:]) * (0, 0, b)
    else:
        rim = directions[:, :2] / np.linalg.norm(directions[:, :2], axis=1, keepdims=True)
        points = np.concatenate([a * rim, b * np.sign(directions[:, 2:])], axis=1)
    w, u = rotation[0], rotation[1:]
    turned = points + 2 * np.cross(u, np.cross(u, points) + w * points)
    np.testing.assert_allclose(np.abs(turned).max(0), world_half_extents(body), rtol=2e-3)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenes_have_room_and_tell_their_bodies_apart(scenario: str) -> None:
    for seed in range(40):
        scene = draw_scene(np.random.default_rng(seed), scenario)
        assert 2 <= len(scene.bodies) <= MAX_BODIES
        colours = [body.colour for body in scene.bodies]
        assert len(set(colours)) == len(colours)
        for body in scene.bodies:
            reach = np.abs(body.position[:2]) + world_half_extents(body)[:2]
            assert reach.max() <= HALF_TABLE
            assert body.position[2] >= world_half_extents(body)[2] - 1e-9
            assert np.linalg.norm(body.rotation) == pytest.approx(1)


def test_rolling_bodies_do_not_slip() -> None:
    rolling = 0
    for seed in range(20):
        for body in draw_scene(np.random.default_rng(seed), "roll").bodies:
            if np.linalg.norm(body.velocity):
                # The point that touches the table rests: v + spin x (-r z) = 0.
                touch = np.cross(body.spin, (0, 0, -body.size[0])) + body.velocity
                np.testing.assert_allclose(touch, 0, atol=1e-12)
                rolling += 1
    assert rolling > 30


def test_every_shape_appears() -> None:
    seen = {
        body.shape
        for seed in range(20)
        for name in SCENARIOS
        for body in draw_scene(np.random.default_rng(seed), name).bodies
    }
    assert seen == set(SHAPES)
