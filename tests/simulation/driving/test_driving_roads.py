"""Curves against circles and geometry; routes that a car can steer; traffic without accidents."""

import math

import numpy as np
import pytest

from openwfm.simulation.driving.curves import bent, quarter_turn
from openwfm.simulation.driving.roads import DIRECTIONS, LANE, draw_town
from openwfm.simulation.driving.traffic import (
    ACCELERATION,
    HEADWAY,
    STANDSTILL,
    Driver,
    Rules,
    Traffic,
    conflicts,
    profile,
)


def town(lanes: int = 2, sides: tuple[str, ...] = ("north", "south"), bends: bool = True):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    return draw_town(rng, side_roads=sides, main_lanes=lanes, bends=bends)


def driver(route, arc: float, speed: float, wish: float) -> Driver:  # type: ignore[no-untyped-def]
    return Driver(kind="car", colour="red", route=route, arc=arc, speed=speed, wish=wish)


def test_constant_curvature_is_a_circle_and_its_offset_too() -> None:
    radius = 20.0
    circle = bent(np.zeros(2), 0.0, np.full(401, 1 / radius))
    np.testing.assert_allclose(
        np.linalg.norm(circle.points - (0, radius), axis=1), radius, atol=1e-4
    )
    inner = circle.shifted(5.0)
    np.testing.assert_allclose(np.linalg.norm(inner.points - (0, radius), axis=1), 15, atol=1e-4)
    np.testing.assert_allclose(inner.curvature, 1 / 15, rtol=1e-4)
    assert inner.length == pytest.approx(0.75 * circle.length, rel=1e-4)
    back = circle.reversed().reversed()
    np.testing.assert_allclose(back.points, circle.points)
    np.testing.assert_allclose(circle.reversed().curvature, -1 / radius)


@pytest.mark.parametrize("side", [1, -1])
def test_a_quarter_turn_ends_where_it_must(side: int) -> None:
    curve = quarter_turn(np.array([2.0, 1.0]), 0.3, 9.0, side)
    end = np.array([2.0, 1.0]) + 9 * np.array(
        [math.cos(0.3) - side * math.sin(0.3), math.sin(0.3) + side * math.cos(0.3)]
    )
    np.testing.assert_allclose(curve.points[-1], end, atol=1e-9)
    assert curve.heading[-1] - curve.heading[0] == pytest.approx(side * math.pi / 2, abs=1e-4)
    assert curve.curvature[0] == 0 and abs(curve.curvature[-1]) < 1e-9


@pytest.mark.parametrize("lanes", [1, 2])
def test_routes_are_steerable_and_on_the_asphalt(lanes: int) -> None:
    streets = town(lanes)
    routes = streets.routes()
    assert len(routes) == 4 * 2 + 2 + 2 * lanes  # two turns from each arm, and straight on
    for route in routes:
        curve = route.curve
        steps = np.diff(curve.points, axis=0)
        # Arc length, heading and curvature are those of the points.
        np.testing.assert_allclose(np.hypot(*steps.T), np.diff(curve.arc), rtol=1e-3)
        chord = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        middle = (curve.heading[1:] + curve.heading[:-1]) / 2
        assert np.abs(np.angle(np.exp(1j * (chord - middle)))).max() < 1e-3
        turned = np.cumsum((curve.curvature[1:] + curve.curvature[:-1]) / 2 * np.diff(curve.arc))
        np.testing.assert_allclose(curve.heading[1:] - curve.heading[0], turned, atol=5e-3)
        assert np.abs(curve.curvature).max() < 1 / 6
        assert streets.asphalt_margin(curve.points[::10]).min() > 1.1
        assert route.stop < route.turn < route.clear or math.isinf(route.turn)
        arriving = curve.at(0.0)[1] - (DIRECTIONS[route.origin] + math.pi)
        assert abs(np.angle(np.exp(1j * arriving))) < 0.6  # with the bends of its arm


def test_the_margin_is_the_distance_to_the_kerb() -> None:
    streets = town(1, bends=False)
    half = LANE + 0.4
    points = np.array([[50, 0], [50, half - 1], [50, half + 2], [-30, -half], [half - 1, 40.0]])
    np.testing.assert_allclose(streets.asphalt_margin(points), [half, 1, -2, 0, 1], atol=0.02)
    # The corner is cut by a kerb of radius 7: on the diagonal at 7·(√2 - 1) from the corner.
    at = half + 7 * (1 - math.sqrt(0.5))
    corner = np.array([[at - 0.1, at - 0.1], [at + 0.3, at + 0.3]])
    inside, outside = streets.asphalt_margin(corner)
    assert inside == pytest.approx(0.1 * math.sqrt(2), abs=0.02) and outside < 0


def test_a_change_of_lane_moves_one_lane_over() -> None:
    streets = town(2, sides=(), bends=False)
    route = streets.through("west", 1, 0, start=500.0, length=45.0)
    y = route.curve.points[:, 1]
    np.testing.assert_allclose([y[0], y[-1]], [-1.5 * LANE, -0.5 * LANE])
    # A quintic of length L over w metres bends at most 10/√3·w/L².
    expected = 10 / math.sqrt(3) * LANE / 45**2
    assert np.abs(route.curve.curvature).max() == pytest.approx(expected, rel=0.03)


def test_a_follower_settles_at_the_distance_of_the_model() -> None:
    route = town(1, sides=(), bends=False).through("west", 0)
    drivers = [driver(route, 100.0, 8.0, 8.0), driver(route, 60.0, 12.0, 14.0)]
    flow = Traffic(drivers, Rules(control="none")).run(1500)
    speed = flow.speeds[-1, 0]
    assert speed == pytest.approx(8.0, abs=0.01)
    assert flow.speeds[-1, 1] == pytest.approx(speed, abs=0.02)
    gap = flow.arcs[-1, 0] - flow.arcs[-1, 1] - 4.4
    equilibrium = (STANDSTILL + speed * HEADWAY) / math.sqrt(1 - (speed / 14) ** 4)
    assert gap == pytest.approx(equilibrium, rel=0.03)
    assert flow.accelerations.max() <= ACCELERATION


def test_a_red_light_stops_before_the_line_and_green_lets_go() -> None:
    route = town(1).through("west", 0)
    rules = Rules(control="lights", first="side", switch=15.0)
    assert rules.colour("north", 11.9) == "green" and rules.colour("north", 12.5) == "amber"
    assert rules.colour("west", 16.4) == "red" and rules.colour("west", 16.6) == "green"
    flow = Traffic([driver(route, route.stop - 70, 12.0, 12.0)], rules).run(30 * 30)
    waiting = flow.arcs[14 * 30, 0] + 2.2
    assert flow.speeds[14 * 30, 0] < 0.1 and -3 < waiting - route.stop <= 0
    assert flow.arcs[-1, 0] > route.clear and flow.speeds[16 * 30 :, 0].max() > 6


def test_ways_that_meet_conflict_and_those_that_do_not_do_not() -> None:
    streets = town(1)
    ahead, across = streets.through("west", 0), streets.through("south", 0)
    oncoming, left = streets.through("east", 0), streets.turning("west", "north")
    right, other_right = streets.turning("west", "south"), streets.turning("east", "north")
    meet = conflicts([ahead, across, oncoming, left, right, other_right])
    assert meet[0, 1] and meet[2, 3] and meet[1, 3] and meet[3, 5]
    assert not meet[0, 2] and not meet[4, 5] and not meet[2, 4]
    assert (meet == meet.T).all()


def test_speeds_before_a_turn_can_be_braked_to() -> None:
    route = town(1).turning("west", "south")
    fastest, arc = profile(route), route.curve.arc
    assert (fastest**2 * np.abs(route.curve.curvature)).max() < 2.001
    assert (np.diff(fastest**2) / (2 * np.diff(arc))).min() > -1.21
