"""Filmed episodes: truth recomputed from what is stored, pictures against projections."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation

from openwfm.simulation.film import encode
from openwfm.simulation.lens import project
from openwfm.simulation.manipulation.arm import gripper_of
from openwfm.simulation.manipulation.config import ManipulationConfig
from openwfm.simulation.manipulation.model import CUP_HEIGHT, CUP_RADIUS
from openwfm.simulation.manipulation.scene import TASKS
from openwfm.simulation.manipulation.world import ManipulationWorld
from openwfm.simulation.worlds import ClipRejectedError, WorldClip

CONF = Path(__file__).parents[3] / "conf" / "world" / "manipulation.yaml"
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])


@pytest.fixture(scope="module")
def world(backend: str) -> Iterator[ManipulationWorld]:
    world = ManipulationConfig(num_frames=33, supersample=1).open(3, backend)
    yield world
    world.close()


@pytest.fixture(scope="module")
def clips(world: ManipulationWorld) -> list[WorldClip]:
    """The expert's and the clumsy hand's round of the tasks."""
    return [world.film(index) for index in (*range(5), *range(15, 20))]


def test_yaml_has_the_defaults() -> None:
    values = yaml.safe_load(CONF.read_text())
    target = values.pop("_target_").rsplit(".", 1)
    assert target == [ManipulationConfig.__module__, ManipulationConfig.__name__]
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    assert given == {key: getattr(ManipulationConfig(), key) for key in given}
    assert set(given) == set(ManipulationConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    "key, value",
    [
        ("tasks", ("juggle",)), ("tasks", ()), ("skills", ("superb",)), ("num_frames", 1),
        ("width", 60), ("supersample", 3), ("cameras", 3), ("name", "arm"),
    ],
)  # fmt: skip
def test_bad_values_are_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"world\.{key}.*must"):
        ManipulationConfig(**{key: value})  # type: ignore[arg-type]


def test_actions_are_those_of_the_recorded_states(clips: list[WorldClip]) -> None:
    for clip in clips:
        assert clip.action is not None and clip.action.rate == clip.fps == 5
        state, values = clip.state, clip.action.values
        turns = Rotation.from_euler("xyz", state["gripper_euler"])
        way = turns[:-1].inv().apply(np.diff(state["gripper_position"], axis=0))
        np.testing.assert_allclose(values[:, :3], way, atol=1e-12)
        relative = (turns[:-1].inv() * turns[1:]).as_euler("xyz")
        np.testing.assert_allclose(values[:, 3:6], relative, atol=1e-9)
        np.testing.assert_array_equal(values[:, 6], state["gripper_opening"][1:])
        assert (values[:, 6] >= 0).all() and (values[:, 6] <= 1).all()
        assert all(len(array) == clip.num_frames for array in state.values())
        position, turn = gripper_of(state["arm_angles"][-1])
        np.testing.assert_allclose(position, state["gripper_position"][-1], atol=1e-9)
        np.testing.assert_allclose(turn, turns[-1].as_matrix(), atol=1e-9)


def test_labels_follow_from_the_state(clips: list[WorldClip]) -> None:
    verdicts = []
    for clip, task in zip(clips, TASKS * 2, strict=True):
        facts, state, last = clip.facts, clip.state, clip.state["object_positions"][-1]
        assert facts["task"] == task and facts["instruction"] in clip.caption
        if task == "play":
            assert facts["success"] is None and clip.tags[-1] != "failure"
            continue
        done = state["done"][-2:].all()
        assert facts["success"] == done and clip.tags[-1] == ("success" if done else "failure")
        verdicts.append(done)
        if task == "pick_and_place":
            cup = facts["objects"].index(next(n for n in facts["objects"] if n.endswith("cup")))
            off = last[0] - last[cup]
            inside = np.hypot(*off[:2]) < CUP_RADIUS and 0 < off[2] < CUP_HEIGHT
            assert inside == done == ("ends up in" in clip.caption)
            assert f"the {facts['objects'][0]}" in clip.caption
        if task == "open_drawer":
            opening = state["drawer_opening"]
            assert opening[0] == 0 and (opening[-1] > 0.085 or not done)
            assert ("wide open" in clip.caption) == (opening[-1] > 0.085)
        if task == "push":
            moved = np.linalg.norm(last[0] - state["object_positions"][0, 0]) > 0.02
            assert ("stays where it is" in clip.caption) == (not moved)
    assert all(verdicts[:4]) and not all(verdicts[4:])


def test_captions_name_exactly_what_is_seen(clips: list[WorldClip]) -> None:
    for clip in clips:
        seen = set(clip.mask_names) - {"background", "table", "robot", "cabinet", "drawer"}
        assert all(name in clip.caption for name in seen)
        assert ("drawer" in clip.caption) == ("drawer" in clip.mask_names)
    instructions = {clip.facts["instruction"] for clip in clips}
    assert len(instructions) > 8


def test_a_clip_does_not_depend_on_those_before_it(
    world: ManipulationWorld, clips: list[WorldClip], backend: str
) -> None:
    fresh = ManipulationConfig(num_frames=33, supersample=1).open(3, backend)
    try:
        alone = encode(fresh.film(3), "manipulation", 3, 3)
    finally:
        fresh.close()
    assert alone == encode(clips[3], "manipulation", 3, 3)
    again = world.film(3)
    np.testing.assert_array_equal(again.views["main"], clips[3].views["main"])


@pytest.mark.parametrize("width, height", [(64, 64), (320, 256)])
def test_blocks_are_where_the_cameras_project_them(width: int, height: int, backend: str) -> None:
    config = ManipulationConfig(
        tasks=("open_drawer", "push", "play"), skills=("expert",), num_frames=4,
        width=width, height=height, cameras=2, supersample=1,
    )  # fmt: skip
    world = config.open(1, backend)
    compared = {"main": 0, "wrist": 0}
    try:
        for index in range(3):
            clip = world.film(index)
            assert clip.views["main"].shape == (4, height, width, 3)
            for view in clip.views:
                for frame in range(4):
                    compared[view] += _compare(clip, view, frame)
    finally:
        world.close()
    assert compared["main"] >= 8 and compared["wrist"] >= 3


def _compare(clip: WorldClip, view: str, frame: int) -> int:
    """Blocks that are whole in the picture: rendered centroid against that of the projected
    cube, sampled at pixel centres. Returns how many there were."""
    camera, mask, count = clip.cameras[view], clip.masks[view][frame], 0
    height, width = mask.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2) + 0.5
    for block, side in enumerate(clip.facts["block_sides"]):
        turn = Rotation.from_quat(clip.state["object_rotations"][frame, block], scalar_first=True)
        corners = turn.apply(side / 2 * CORNERS) + clip.state["object_positions"][frame, block]
        points = project(corners, camera.intrinsics[frame], camera.camera_to_world[frame])
        inside = grid[Delaunay(points[:, :2]).find_simplex(grid) >= 0]
        seen = mask == clip.mask_names.index(clip.facts["objects"][block])
        border = (points[:, :2] < 1).any() or (points[:, :2] > (width - 1, height - 1)).any()
        if border or (points[:, 2] < 0.05).any() or seen.sum() < 0.97 * len(inside) - 1:
            continue  # something stands in front of it, or the picture ends
        rows, columns = np.nonzero(seen)
        assert seen.sum() <= 1.03 * len(inside) + 2
        np.testing.assert_allclose(columns.mean() + 0.5, inside[:, 0].mean(), atol=0.5)
        np.testing.assert_allclose(rows.mean() + 0.5, inside[:, 1].mean(), atol=0.5)
        count += 1
    return count


def test_everything_is_in_the_first_picture(clips: list[WorldClip]) -> None:
    for clip in clips:
        first = set(np.unique(clip.masks["main"][0]))
        hidden = [n for i, n in enumerate(clip.mask_names) if i and i not in first]
        # The arm may stand in front of one thing.
        assert len(hidden) <= 1 and "robot" not in hidden
        assert clip.views["main"][0].std() > 20


def test_an_unusable_clip_is_rejected(
    world: ManipulationWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = world.simulator.step

    def shove(action: np.ndarray) -> None:
        world.simulator.data.qvel[world.simulator.model.joint("block0").dofadr[0]] = 4.0
        step(action)

    monkeypatch.setattr(world.simulator, "step", shove)
    with pytest.raises(ClipRejectedError) as error:
        world.film(0)
    assert error.value.reason == "left_table"
