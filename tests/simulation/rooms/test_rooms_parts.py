from __future__ import annotations

import math

import numpy as np
import pytest

from openwfm.simulation.rooms.parts import Solids, Thing, box, column, panel, place


def test_a_placed_thing_turns_about_its_own_origin_and_then_moves() -> None:
    thing = Thing(name="bar", parts=(box((1, 0, 0.5), (0.5, 0.1, 0.2), "wood"),))
    low, high = Solids.of([place(thing, 2.0, 3.0, math.pi / 2)]).bounds()
    np.testing.assert_allclose(low[0], [1.9, 3.5, 0.3], atol=1e-12)
    np.testing.assert_allclose(high[0], [2.1, 4.5, 0.7], atol=1e-12)


def test_a_panel_stands_upright_and_faces_plus_y() -> None:
    part = panel((0, 0, 1), 0.6, 0.4, "painting0")
    right, up, out = part.rotation.T
    np.testing.assert_array_equal(up, [0, 0, 1])
    np.testing.assert_array_equal(out, [0, 1, 0])
    # Seen from +y looking to -y, the viewer's right is -x.
    np.testing.assert_array_equal(right, [-1, 0, 0])
    assert np.linalg.det(part.rotation) == pytest.approx(1)


def _solids(rng: np.random.Generator) -> tuple[list[Thing], Solids]:
    things = [
        place(
            Thing(name="block", parts=(box((0, 0, 0), tuple(rng.uniform(0.1, 0.6, 3)), "wood"),)),
            *rng.uniform(-2, 2, 2), float(rng.uniform(0, 6)), z=float(rng.uniform(-1, 1)),
        )
        for _ in range(7)
    ]  # fmt: skip
    return things, Solids.of(things)


def test_distances_are_those_to_the_nearest_point_of_a_box() -> None:
    rng = np.random.default_rng(0)
    things, solids = _solids(rng)
    points = rng.uniform(-3, 3, (40, 3))
    for point, distance in zip(points, solids.distances(points), strict=True):
        nearest = []
        for thing in things:
            part = thing.parts[0]
            local = part.rotation.T @ (point - part.position)
            clipped = np.clip(local, -np.asarray(part.size), part.size)
            nearest.append(np.linalg.norm(local - clipped))
        assert distance == pytest.approx(min(nearest), abs=1e-12)


def test_a_ray_meets_what_small_steps_along_it_meet() -> None:
    rng = np.random.default_rng(1)
    _, solids = _solids(rng)
    origins = rng.uniform(-3, 3, (30, 3))
    ways = solids.centres[rng.integers(0, 7, 30)] + rng.normal(0, 0.4, (30, 3)) - origins
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    outside = solids.distances(origins) > 0.01
    origins, ways = origins[outside], ways[outside]
    reach, owners = solids.cast(origins, ways)
    steps = np.arange(0, 6, 0.002)
    hits = 0
    for origin, way, distance, owner in zip(origins, ways, reach, owners, strict=True):
        inside = solids.distances(origin + steps[:, None] * way) == 0
        if not inside.any():
            assert distance > 5.9 or solids.distances(origin + distance * way[None])[0] < 1e-9
            continue
        hits += 1
        assert steps[inside.argmax()] == pytest.approx(distance, abs=0.003)
        assert owner >= 0
    assert hits > 5


def test_the_bounds_of_a_tilted_column_hold_its_rim() -> None:
    thing = Thing(name="column", parts=(column((0.2, 0, 1), 0.3, 1.0, "rock"),))
    low, high = Solids.of([thing]).bounds()
    np.testing.assert_allclose((low[0], high[0]), [(-0.1, -0.3, 0), (0.5, 0.3, 2)])
