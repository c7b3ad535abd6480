"""Groups of equal bodies: what the caption says is there, apart, and independent of the look."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import yaml

from openwfm.config import config_folder
from openwfm.randomness import numpy_generator
from openwfm.simulation.bodies import world_half_extents
from openwfm.simulation.camera import draw_camera
from openwfm.simulation.groups import (
    APART,
    COLOURS,
    NUMBERS,
    STEEP,
    describe_group,
    draw_group,
    from_above,
)
from openwfm.simulation.looks import draw_look
from openwfm.simulation.scenarios import HALF_TABLE
from openwfm.simulation.table import TableConfig


def test_groups_are_equal_bodies_apart_on_the_table() -> None:
    counts = Counter[tuple[int, str]]()
    for index in range(600):
        bodies = draw_group(numpy_generator(0, "group", index)).bodies
        assert len({(b.shape, b.colour, b.size, b.velocity, b.spin) for b in bodies}) == 1
        spots = np.array([body.position[:2] for body in bodies])
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
        assert (gaps[np.triu_indices(len(bodies), 1)] > APART).all()
        for body in bodies:
            half = world_half_extents(body)
            assert body.position[2] == pytest.approx(half[2])
            end = np.array(body.position[:2]) + np.array(body.velocity[:2])  # after a second
            assert (np.abs(end) + half[:2] < HALF_TABLE + 0.25).all()
            rolling = np.cross(body.spin, (0, 0, body.size[0])) if any(body.velocity) else 0
            np.testing.assert_allclose(rolling, body.velocity, atol=1e-9)
        counts[len(bodies), bodies[0].colour] += 1
    # Number and colour are uniform and independent: chi-squared of 23 degrees, 99.9 % below 49.7.
    wanted = 600 / (len(NUMBERS) * len(COLOURS))
    assert len(counts) == 24
    assert sum((count - wanted) ** 2 / wanted for count in counts.values()) < 49.7


def test_captions_say_number_colour_and_direction() -> None:
    for index in range(80):
        rng = numpy_generator(1, "group", index)
        scene = draw_group(rng)
        camera = from_above(draw_camera(rng, "still", 0.0), rng)
        assert STEEP[0] <= camera.start.elevation <= STEEP[1]
        text = describe_group(scene, draw_look(rng), camera, rng)
        count, first = len(scene.bodies), scene.bodies[0]
        assert f"{NUMBERS[count - 1]} {first.colour} " in text.lower()
        noun = {"sphere": "ball", "box": "box", "cylinder": "cylinder"}[first.shape]
        plural = "boxes" if noun == "box" else f"{noun}s"
        assert f" {plural if count > 1 else noun} " in text
        if any(first.velocity):
            seen = camera.start.project(np.array([*first.velocity[:2], 0.0]) * 0.1)
            seen -= camera.start.project(np.zeros(3))
            if "right" in text or "left" in text:
                assert ("right" in text) == (seen[0] > 0)
            else:
                assert ("away" in text) == (seen[1] > 0)
        else:
            assert "still on" in text or "still;" in text


def test_the_world_is_the_table_with_one_scenario() -> None:
    values = yaml.safe_load((config_folder() / "world" / "groups.yaml").read_text())
    assert values["scenarios"] == ["group"] and values["still"] == 1.0
    for bad in ({"scenarios": ()}, {"scenarios": ("groups",)}):
        with pytest.raises(ValueError, match="world.scenarios="):
            TableConfig(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"world\.still=1\.5"):
        TableConfig(still=1.5)


def test_bodies_stay_in_the_picture(backend: str) -> None:
    """All centres, in all frames, at least a radius from the edge."""
    from openwfm.simulation.lens import project

    world = TableConfig(scenarios=("group",), still=1.0, num_frames=25, supersample=1).open(
        2, backend
    )
    for index in range(12):
        clip = world.film(index)
        track, path = clip.cameras["main"], clip.state["positions"]
        for body in range(path.shape[1]):
            seen = project(path[:, body], track.intrinsics[0], track.camera_to_world[0])[:, :2]
            assert seen.min() > 2 and seen.max() < 62, (index, body)
        assert clip.facts["num_bodies"] == path.shape[1] and clip.facts["colour"] in COLOURS
    world.close()
