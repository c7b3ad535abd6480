from __future__ import annotations

import itertools

import numpy as np
import pytest

from openwfm.simulation.rooms.config import KINDS
from openwfm.simulation.rooms.layout import MAX_PARTS, Room, draw_room
from openwfm.simulation.rooms.paint import GRAINS, IMAGES, SURFACES
from openwfm.simulation.rooms.parts import Solids


@pytest.fixture(scope="module", params=KINDS)
def rooms(request: pytest.FixtureRequest) -> list[Room]:
    return [draw_room(np.random.default_rng(seed), request.param) for seed in range(6)]


def test_a_room_fits_the_model_and_its_masks(rooms: list[Room]) -> None:
    slots = {*GRAINS, *IMAGES, *SURFACES}
    for room in rooms:
        parts = [part for thing in room.things for part in thing.parts]
        assert 25 < len(parts) <= MAX_PARTS
        assert len(room.things) < 255
        assert {part.texture for part in parts} <= slots
        assert sum(not thing.surface for thing in room.things) >= 6


def test_everything_stands_inside_the_walls_and_on_the_floor(rooms: list[Room]) -> None:
    for room in rooms:
        low, high = Solids.of(room.things).bounds()
        half = np.asarray(room.size[:2]) / 2
        for index, thing in enumerate(room.things):
            if thing.parts[0].texture in SURFACES:
                continue
            assert (low[index, :2] >= -half - 0.02).all() and (high[index, :2] <= half + 0.02).all()
            assert low[index, 2] > -0.01, thing.name
            if room.indoors:
                assert high[index, 2] <= room.size[2] + 0.01, thing.name


def test_no_two_pieces_stand_in_each_other(rooms: list[Room]) -> None:
    """A chair's seat may be under its table; the rest of the two may not cross."""
    for room in rooms:
        pieces = [
            thing
            for thing in room.things
            if thing.parts[0].texture not in SURFACES and "rug" not in thing.name
        ]
        boxes = [Solids.of([piece]) for piece in pieces]
        for (a, first), (b, second) in itertools.combinations(zip(pieces, boxes, strict=True), 2):
            (low_a,), (high_a,) = first.bounds()
            (low_b,), (high_b,) = second.bounds()
            overlap = np.minimum(high_a, high_b) - np.maximum(low_a, low_b)
            if (overlap <= 0.03).any():
                continue
            for one, other in ((first, second), (second, first)):
                assert (other.distances(one.centres) > 0).all(), (a.name, b.name)


@pytest.mark.parametrize(
    "kind, middle",
    [("dining room", "table"), ("bedroom", "bed"), ("living room", "coffee table")],
)
def test_a_kind_holds_what_its_name_promises(kind: str, middle: str) -> None:
    room = draw_room(np.random.default_rng(0), kind)
    assert room.things[room.centre].name.endswith(middle)
    assert "ceiling" in [thing.name for thing in room.things]


def test_a_garden_has_no_ceiling() -> None:
    garden = draw_room(np.random.default_rng(0), "garden")
    assert not garden.indoors and "ceiling" not in [thing.name for thing in garden.things]


def test_rooms_differ() -> None:
    sizes = {draw_room(np.random.default_rng(seed), "study").size for seed in range(5)}
    assert len(sizes) == 5
