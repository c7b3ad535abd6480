"""The physics world's clips: their truth, pairs, controls and sentences."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from openwfm.simulation.lens import project
from openwfm.simulation.physics.config import COUNTERFACTUALS, SCENARIOS, PhysicsConfig
from openwfm.simulation.physics.controls import apply_control
from openwfm.simulation.physics.counterfactual import alter
from openwfm.simulation.physics.recording import Recording
from openwfm.simulation.physics.scenarios import DRAWS
from openwfm.simulation.physics.world import PhysicsWorld, check_energy
from openwfm.simulation.worlds import ClipRejectedError, WorldClip

ROOT = Path(__file__).parents[3]
SMALL = PhysicsConfig(num_frames=30, supersample=1)
Film = Callable[[int], WorldClip]


@pytest.fixture(scope="module")
def world(backend: str) -> Iterator[PhysicsWorld]:
    world = SMALL.open(0, backend)
    assert isinstance(world, PhysicsWorld)
    yield world
    world.close()


@pytest.fixture(scope="module")
def film(world: PhysicsWorld) -> Film:
    clips: dict[int, WorldClip] = {}

    def get(index: int) -> WorldClip:
        if index not in clips:
            clips[index] = world.film(index)
        return clips[index]

    return get


def test_the_yaml_holds_the_defaults() -> None:
    loaded = yaml.safe_load((ROOT / "conf/world/physics.yaml").read_text())
    assert loaded.pop("_target_") == "openwfm.simulation.physics.config.PhysicsConfig"
    assert PhysicsConfig(**loaded) == PhysicsConfig()
    assert set(loaded) == {field.name for field in dataclasses.fields(PhysicsConfig)}
    assert PhysicsConfig().name == "physics"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"scenarios": ()}, "world.scenarios"),
        ({"scenarios": ("billiards",)}, "world.scenarios=billiards: must be one of free_fall"),
        ({"cameras": 2}, "world.cameras=2"),
        ({"num_frames": 1}, "world.num_frames=1"),
        ({"num_frames": 500}, "world.num_frames=500: must be at most 20 seconds, 480"),
        ({"fps": 2}, "world.fps=2"),
        ({"width": 50}, "world.width=50"),
        ({"control": "mirrored"}, "world.control=mirrored"),
        ({"counterfactual": "age"}, "world.counterfactual=age"),
        ({"counterfactual": "spin"}, "world.counterfactual=spin: changes nothing in dominoes"),
    ],
)
def test_bad_values_are_named(bad: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PhysicsConfig(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", range(8))
def test_a_clip_carries_consistent_truth(film: Film, index: int) -> None:
    clip = film(index)
    state = clip.state
    assert clip.facts["scenario"] == SCENARIOS[index]
    n, t = len(state["names"]), clip.num_frames
    assert state["positions"].shape == (t, n, 3) and state["rotations"].shape == (t, n, 4)
    np.testing.assert_allclose(np.linalg.norm(state["rotations"], axis=-1), 1, atol=1e-5)
    assert clip.facts["num_objects"] == n
    assert clip.mask_names[1 : n + 1] == tuple(state["names"])
    # Everything is seen in the first frame.
    assert set(range(1, len(clip.mask_names))) <= set(np.unique(clip.masks["main"][0]))
    # Potential energy from its definition; velocities against differences of positions.
    weights = state["masses"] * clip.facts["gravity_m_s2"]
    np.testing.assert_allclose(
        state["potential_energy"], weights * state["positions"][..., 2], rtol=1e-4, atol=1e-5
    )
    assert (state["contacts"][:, 0] < t).all() and (state["contacts"][:, 1] < n).all()


def test_velocities_are_the_derivatives_of_positions(film: Film) -> None:
    for index in (0, 7):
        clip = film(index)
        path, speeds = clip.state["positions"], clip.state["linear_velocities"]
        middle = (path[2:] - path[:-2]) * clip.fps / 2
        errors = np.linalg.norm(middle - speeds[1:-1], axis=-1)
        # Central differences fail only where something hits something.
        assert np.median(errors) < 0.03 * np.linalg.norm(speeds, axis=-1).max()


def checked_centres(clip: WorldClip, view: str) -> int:
    """Compares whole spheres' masks with the projection of their centres; returns how many."""
    track, masks, checked = clip.cameras[view], clip.masks[view], 0
    height, width = masks.shape[1:]
    for body, facts in enumerate(clip.facts["bodies"]):
        if facts["shape"] != "sphere":
            continue
        places = clip.state["positions"][:, body]
        centres = project(places, track.intrinsics[0], track.camera_to_world[0])
        for frame in range(0, clip.num_frames, 5):
            rows, columns = np.nonzero(masks[frame] == body + 1)
            touches = set(rows) & {0, height - 1} or set(columns) & {0, width - 1}
            radius = track.intrinsics[0, 0, 0] * facts["size_m"][0] / centres[frame, 2]
            if len(rows) > 0.9 * np.pi * radius**2 and not touches:
                seen = np.array([columns.mean(), rows.mean()]) + 0.5
                np.testing.assert_allclose(seen, centres[frame, :2], atol=0.5)
                checked += 1
    return checked


def test_bodies_appear_where_the_stored_camera_projects_them(film: Film) -> None:
    assert sum(checked_centres(film(index), "main") for index in (0, 1, 2, 5, 8, 10)) > 3


def test_bodies_appear_where_each_of_four_cameras_projects_them(backend: str) -> None:
    world = PhysicsConfig(
        num_frames=2, cameras=4, supersample=1, width=128, height=128, scenarios=("free_fall",)
    ).open(2, backend)
    clips = [world.film(index) for index in range(20)]
    world.close()
    for view in clips[0].views:
        assert sum(checked_centres(clip, view) for clip in clips) > 1


def test_a_clip_does_not_depend_on_those_before(backend: str, film: Film) -> None:
    for index in range(4):
        film(index)
    fresh = SMALL.open(0, backend)
    alone = fresh.film(3)
    fresh.close()
    for name, array in film(3).state.items():
        np.testing.assert_array_equal(alone.state[name], array)
    np.testing.assert_array_equal(alone.views["main"], film(3).views["main"])
    np.testing.assert_array_equal(alone.masks["main"], film(3).masks["main"])
    assert alone.captions == film(3).captions and alone.facts == film(3).facts


def test_another_seed_shows_something_else(backend: str, film: Film) -> None:
    other = SMALL.open(1, backend)
    assert (other.film(3).views["main"] != film(3).views["main"]).any()
    other.close()


def test_four_cameras_show_everything_from_four_sides(backend: str) -> None:
    config = PhysicsConfig(num_frames=2, cameras=4, supersample=1, width=96, height=64)
    world = config.open(0, backend)
    for index in (0, 2, 7):
        clip = world.film(index)
        assert list(clip.views) == list(clip.cameras) == ["front", "left", "back", "right"]
        headings = []
        for view, mask in clip.masks.items():
            assert mask.shape == (2, 64, 96)
            assert set(range(1, len(clip.mask_names))) <= set(np.unique(mask[0]))
            headings.append(clip.cameras[view].camera_to_world[0, :2, 2])
        units = np.array(headings) / np.linalg.norm(headings, axis=1, keepdims=True)
        np.testing.assert_allclose((units[:3] * units[1:]).sum(1), 0, atol=1e-6)
    world.close()


@pytest.mark.parametrize("prop", [name for name in COUNTERFACTUALS if name != "none"])
def test_a_counterfactual_changes_one_property(prop: str) -> None:
    for scenario in COUNTERFACTUALS[prop]:
        scene = DRAWS[scenario](np.random.default_rng(4))
        changed, change = alter(scene, prop, np.random.default_rng(5))
        assert change["property"] == prop and change["before"] != change["after"]
        assert (changed.gravity != scene.gravity) == (prop == "gravity")
        assert changed.fixtures == scene.fixtures and changed.plank == scene.plank
        if prop == "gravity":
            assert changed.pieces == scene.pieces and changed.wheel == scene.wheel
            continue
        if scene.wheel is not None:
            assert changed.pieces == scene.pieces and changed.wheel is not None
            fields = [f.name for f in dataclasses.fields(scene.wheel)]
            different = [f for f in fields if getattr(scene.wheel, f) != getattr(changed.wheel, f)]
            assert len(different) == 1
            continue
        pairs = list(zip(scene.pieces, changed.pieces, strict=True))
        [(old, new)] = [pair for pair in pairs if pair[0] != pair[1]]
        assert old.name == change["body"]
        assert (new.mass == pytest.approx(old.mass)) == (prop != "mass")
        allowed = {"mass": {"density"}, "size": {"size", "density", "position"}}.get(prop, {prop})
        fields = [f.name for f in dataclasses.fields(old.body)]
        assert {f for f in fields if getattr(old.body, f) != getattr(new.body, f)} <= allowed


def test_a_pair_is_one_group_and_starts_alike(backend: str) -> None:
    config = PhysicsConfig(
        num_frames=12, supersample=1, counterfactual="gravity", scenarios=("free_fall",)
    )
    world = config.open(3, backend)
    first, second = world.film(0), world.film(1)
    world.close()
    assert first.group == second.group == 0
    np.testing.assert_array_equal(first.views["main"][0], second.views["main"][0])
    assert (first.views["main"][-1] != second.views["main"][-1]).any()
    told = [clip.facts["counterfactual"] for clip in (first, second)]
    assert [one.pop("changed") for one in told] == [False, True] and told[0] == told[1]
    assert first.facts["gravity_m_s2"] == told[0]["before"]
    assert second.facts["gravity_m_s2"] == told[0]["after"]
    assert "gravity" in second.caption and "gravity" not in first.caption


def test_controls_reorder_everything_alike(film: Film) -> None:
    clip = film(0)
    rng = np.random.default_rng(0)
    back = apply_control(clip, "reversed", rng)
    for name in ("positions", "rotations", "potential_energy", "kinetic_energy"):
        np.testing.assert_array_equal(back.state[name], clip.state[name][::-1])
    for name in ("linear_velocities", "angular_velocities"):
        np.testing.assert_array_equal(back.state[name], -clip.state[name][::-1])
    np.testing.assert_array_equal(back.views["main"], clip.views["main"][::-1])
    np.testing.assert_array_equal(back.masks["main"], clip.masks["main"][::-1])
    mirrored = clip.state["contacts"] * (-1, 1, 1) + (clip.num_frames - 1, 0, 0)
    assert set(map(tuple, mirrored)) == set(map(tuple, back.state["contacts"]))
    still = apply_control(clip, "frozen", rng)
    assert (still.views["main"] == clip.views["main"][0]).all()
    assert not still.state["linear_velocities"].any() and not still.state["kinetic_energy"].any()
    mixed = apply_control(clip, "shuffled", rng)
    order = mixed.state["source_frames"]
    assert sorted(order) == list(range(clip.num_frames)) and list(order) != sorted(order)
    np.testing.assert_array_equal(mixed.views["main"], clip.views["main"][order])
    np.testing.assert_array_equal(mixed.state["positions"], clip.state["positions"][order])
    for control, changed in (("reversed", back), ("frozen", still), ("shuffled", mixed)):
        assert f"control:{control}" in changed.tags and changed.facts["control"] == control
        assert clip.caption[1:] in changed.caption and changed.caption != clip.caption
    assert apply_control(clip, "none", rng) is clip


def test_energy_from_nowhere_is_rejected() -> None:
    positions = np.zeros((3, 1, 3))
    positions[:, 0, 2] = (1.0, 0.5, 1.2)
    still = np.zeros((3, 1, 3))
    recording = Recording(
        positions=positions, rotations=np.tile([1.0, 0, 0, 0], (3, 1, 1)), velocities=still,
        spins=still, masses=np.ones(1), inertias=np.ones((1, 3)),
        contacts=np.zeros((0, 3), np.int32), joints=np.zeros((3, 7)), gravity=9.81,
    )  # fmt: skip
    with pytest.raises(ClipRejectedError, match="unstable: energy grew by 40.0 percent"):
        check_energy(recording)
