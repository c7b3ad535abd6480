"""Clips against independent arithmetic: cameras, boxes, depth in several views, captions."""

from collections.abc import Iterator

import numpy as np
import pytest

from openwfm.randomness import numpy_generator
from openwfm.simulation.driving.boxes import corners
from openwfm.simulation.driving.captions import VEHICLE_SHARE
from openwfm.simulation.driving.config import BEHAVIOURS, DrivingConfig
from openwfm.simulation.driving.episodes import Episode, draw_episode
from openwfm.simulation.driving.model import MASK_NAMES
from openwfm.simulation.driving.rig import MOUNTS, VIEWS
from openwfm.simulation.driving.weather import draw_weather, through_haze
from openwfm.simulation.driving.world import DrivingWorld, truth
from openwfm.simulation.lens import project
from openwfm.simulation.worlds import WorldClip

CONFIG = DrivingConfig(num_frames=4, width=96, height=64, weathers=("day", "rain"))
NEIGHBOURS = (
    ("front", "front_left"), ("front", "front_right"), ("front_left", "rear_left"),
    ("front_right", "rear_right"), ("rear_left", "rear"), ("rear_right", "rear"),
)  # fmt: skip


@pytest.fixture(scope="module")
def world(backend: str) -> Iterator[DrivingWorld]:
    world = CONFIG.open(5, backend)
    yield world
    world.close()


@pytest.fixture(scope="module")
def clips(world: DrivingWorld) -> list[WorldClip]:
    return [world.film(index) for index in range(len(BEHAVIOURS))]


def stage(world: DrivingWorld, index: int) -> tuple[Episode, dict[str, np.ndarray]]:
    """The world as it stands at the first frame of a clip."""
    rng = numpy_generator(5, "driving/episode", index)
    episode = draw_episode(rng, BEHAVIOURS[index], fps=10, num_frames=4, max_agents=12)
    look = numpy_generator(5, "driving/look", index)
    world.dress(episode, draw_weather(look, str(look.choice(CONFIG.weathers))), look)
    state = truth(episode)
    world.pose_at(episode, state, 0)
    return episode, state


def test_views_are_named_and_ordered(clips: list[WorldClip]) -> None:
    assert VIEWS == ("front", "front_left", "front_right", "rear_left", "rear_right", "rear")
    for clip, behaviour in zip(clips, BEHAVIOURS, strict=True):
        assert tuple(clip.views) == tuple(clip.cameras) == tuple(clip.captions) == VIEWS
        assert clip.facts["behaviour"] == behaviour and clip.fps == 10
        assert clip.facts["num_agents"] == len(clip.mask_names) - len(MASK_NAMES)
        for video in clip.views.values():
            assert video.shape == (4, 64, 96, 3) and video.std() > 15


def test_the_rig_is_the_stated_one(clips: list[WorldClip]) -> None:
    """Yaw and height of each camera from its poses, and the same all the way."""
    clip = clips[1]
    ego = clip.state["ego_to_world"]
    for view, (x, y, z, yaw) in MOUNTS.items():
        local = np.linalg.inv(ego) @ clip.cameras[view].camera_to_world
        np.testing.assert_allclose(local, np.broadcast_to(local[0], local.shape), atol=1e-9)
        np.testing.assert_allclose(local[0, :3, 3], (x, y, z), atol=1e-9)
        forward = local[0, :3, 2]
        degrees = np.degrees(np.arctan2(forward[1], forward[0]))
        assert (degrees - yaw + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
        assert np.linalg.det(local[0, :3, :3]) == pytest.approx(1) and -0.1 < forward[2] < 0


@pytest.mark.parametrize("view", VIEWS)
def test_known_points_are_rendered_where_the_camera_projects_them(
    world: DrivingWorld, clips: list[WorldClip], view: str
) -> None:
    """A ball put at known places before each camera; its centre of mass is the point's pixel."""
    stage(world, 0)
    studio, track = world.studio, clips[0].cameras[view]
    model, geom = studio.model, studio.model.geom(f"caster{15}").id
    model.geom_type[geom], model.geom_rgba[geom] = 2, (1, 0, 0, 1)
    k, pose = track.intrinsics[0], track.camera_to_world[0]
    for right, down in ((0.0, 0.0), (-0.5, -0.3), (0.4, 0.1)):
        point = pose[:3] @ [right * 2.2, down * 2.2, 2.2, 1]
        model.geom_size[geom] = 0.15
        studio.data.geom_xpos[geom] = point
        rows, columns = np.nonzero(
            studio.renderer.render_truth(studio.data, studio.fovy, pose)[0] == geom
        )
        expected = project(point[None], k, pose)[0]
        assert len(rows) > 12
        assert abs(columns.mean() + 0.5 - expected[0]) < 0.5
        assert abs(rows.mean() + 0.5 - expected[1]) < 0.5
    model.geom_type[geom], model.geom_rgba[geom] = 6, 0


def points_of(world: DrivingWorld, clip: WorldClip, view: str) -> tuple[np.ndarray, np.ndarray]:
    """World points ``h w 3`` seen by a camera at the first frame, and their depth."""
    track = clip.cameras[view]
    depth = world.studio.truth(track.camera_to_world[0])[1]
    rows, columns = np.indices(depth.shape)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows)], -1)
    rays = pixels @ np.linalg.inv(track.intrinsics[0]).T
    pose = track.camera_to_world[0]
    return (rays * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3], depth


def inverse_depth(depth: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Bilinear in 1/depth, which is linear along planes; edges and hidden points differ."""
    x, y = column - 0.5, row - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy, inverse = x - x0, y - y0, 1 / depth
    upper = inverse[y0, x0] * (1 - fx) + inverse[y0, x0 + 1] * fx
    lower = inverse[y0 + 1, x0] * (1 - fx) + inverse[y0 + 1, x0 + 1] * fx
    return np.asarray(upper * (1 - fy) + lower * fy)


def test_the_ground_is_flat_in_every_view(world: DrivingWorld, clips: list[WorldClip]) -> None:
    episode, _ = stage(world, 0)
    for view in VIEWS:
        points, depth = points_of(world, clips[0], view)
        road = (clips[0].masks[view][0] == MASK_NAMES.index("road")) & (depth < 25)
        if road.any():
            assert np.abs(points[road][:, 2]).max() < 0.02
            margin = episode.town.asphalt_margin(points[road][:, :2])
            assert margin.min() > -0.3


@pytest.mark.parametrize(("one", "two"), NEIGHBOURS)
def test_neighbouring_views_agree_on_depth(
    world: DrivingWorld, clips: list[WorldClip], one: str, two: str
) -> None:
    stage(world, 0)
    points, depth = points_of(world, clips[0], one)
    _, other = points_of(world, clips[0], two)
    track = clips[0].cameras[two]
    near = points[(depth < 60)]
    column, row, expected = project(near, track.intrinsics[0], track.camera_to_world[0]).T
    height, width = other.shape
    inside = (expected > 0) & (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1)
    assert inside.sum() > 20
    column, row, expected = (values[inside] for values in (column, row, expected))
    seen = inverse_depth(other, column, row)
    assert (np.abs(seen * expected - 1) < 0.02).mean() > 0.8


def test_true_matches_have_no_sampson_error(world: DrivingWorld, clips: list[WorldClip]) -> None:
    """Over time: static points of frame 0 in frame 3, where the depth says that they are seen."""
    episode, state = stage(world, 0)
    track = clips[0].cameras["front"]
    points, depth = points_of(world, clips[0], "front")
    labels = clips[0].masks["front"][0]
    static = (labels < len(MASK_NAMES)) & (labels > 0) & (depth < 80)
    matches = points[static]
    k, poses = track.intrinsics[0], track.camera_to_world
    first = project(matches, k, poses[0])
    world.pose_at(episode, state, 3)
    later = world.studio.truth(poses[3])[1]
    second = project(matches, k, poses[3])
    height, width = depth.shape
    inside = (second[:, 2] > 0) & (second[:, 0] > 1) & (second[:, 0] < width - 1)
    inside &= (second[:, 1] > 1) & (second[:, 1] < height - 1)
    first, second = first[inside], second[inside]
    found = inverse_depth(later, second[:, 0], second[:, 1])
    same = np.abs(found * second[:, 2] - 1) < 0.02
    assert same.mean() > 0.8 and same.sum() > 500
    first, second = first[same], second[same]
    motion = np.linalg.inv(poses[3]) @ poses[0]
    x, y, z = motion[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ motion[:3, :3]
    inverse = np.linalg.inv(k)
    fundamental = inverse.T @ essential @ inverse
    a, b = (np.insert(image[:, :2], 2, 1, axis=1) for image in (first, second))
    lines, back = a @ fundamental.T, b @ fundamental
    error = (b * lines).sum(1) ** 2 / (lines[:, :2] ** 2 + np.square(back[:, :2])).sum(1)
    assert np.linalg.norm(motion[:3, 3]) > 0.5 and error.max() < 1e-12


def test_boxes_contain_their_masks(clips: list[WorldClip]) -> None:
    """The convex hull of the projected corners, one pixel wide of it, holds every pixel."""
    checked = 0
    for clip in clips:
        state = clip.state
        for view in VIEWS:
            track = clip.cameras[view]
            for agent in range(clip.facts["num_agents"]):
                eight = corners(
                    state["agent_centre"][0, agent], state["agent_size"][0, agent],
                    state["agent_yaw"][0, agent],
                )  # fmt: skip
                image = project(eight, track.intrinsics[0], track.camera_to_world[0])
                mask = clip.masks[view][0] == len(MASK_NAMES) + agent
                box, pixels = state[f"boxes_{view}"][0, agent], state[f"pixels_{view}"][0, agent]
                visible = state[f"visibility_{view}"][0, agent]
                assert pixels == mask.sum() and 0 <= visible <= 1
                if not mask.any():
                    assert (box == -1).all() and visible == 0
                    continue
                rows, columns = np.nonzero(mask)
                assert box.tolist() == [
                    columns.min(), rows.min(), columns.max() + 1, rows.max() + 1,
                ]  # fmt: skip
                if (image[:, 2] < 0.3).any():
                    continue
                checked += 1
                for x, y in zip(columns + 0.5, rows + 0.5, strict=True):
                    assert inside_hull(image[:, :2], np.array([x, y]), 1.0)
    assert checked > 20


def inside_hull(points: np.ndarray, query: np.ndarray, slack: float) -> bool:
    """In every direction some point lies at least as far as the query."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    directions = np.stack([np.cos(angle), np.sin(angle)])
    return bool(((points @ directions).max(0) + slack >= query @ directions).all())


def test_velocities_are_those_of_the_centres(clips: list[WorldClip]) -> None:
    for clip in clips:
        centre, velocity = clip.state["agent_centre"], clip.state["agent_velocity"]
        mean = (velocity[1:] + velocity[:-1]) / 2
        np.testing.assert_allclose(np.diff(centre, axis=0) * 10, mean, atol=0.12)
        ego = clip.state["ego_to_world"]
        first = np.linalg.inv(ego[0])
        path = (ego[1:, :3, 3] @ first[:3, :3].T) + first[:3, 3]
        np.testing.assert_allclose(clip.trajectory[:3], path, atol=1e-9)  # type: ignore[index]


def test_captions_name_what_the_masks_show(clips: list[WorldClip]) -> None:
    weather_words = {"day": ("day", "daylight"), "rain": ("rain", "wet")}
    does = {
        "straight": ("straight", "bend", "stop", "stands", "pulls"), "left": ("turns left", "stop"),
        "right": ("turns right", "stop"), "lane_change": ("lane",), "stop": ("stop", "stands"),
    }  # fmt: skip
    for clip in clips:
        for view, caption in clip.captions.items():
            assert caption[0].isupper() and caption.endswith(".")
            assert any(word in caption for word in weather_words[clip.facts["weather"]])
            assert any(word in caption.lower() for word in does[clip.facts["behaviour"]]), caption
            masks = clip.masks[view]
            assert ("tree" in caption) <= (masks == MASK_NAMES.index("tree")).any()
            assert ("a stop sign," in caption) <= (masks == MASK_NAMES.index("stop sign")).any()
            areas = {}
            for number, agent in enumerate(clip.facts["agents"]):
                area = (masks == len(MASK_NAMES) + number).sum(axis=(1, 2)).max()
                name = f"{agent['colour']} {agent['kind']}"
                areas[name] = max(area, areas.get(name, 0))
            big = VEHICLE_SHARE * masks[0].size
            for name, area in areas.items():
                if name in caption:
                    assert area >= big
            if any(area >= big for area in areas.values()):
                best = max(areas.values())
                assert any(n in caption for n, area in areas.items() if area == best) or (
                    clip.facts["weather"] == "rain"
                )
    assert len({clip.captions["front"] for clip in clips}) == len(clips)


def test_a_clip_depends_on_its_index_alone(
    world: DrivingWorld, clips: list[WorldClip], backend: str
) -> None:
    alone = CONFIG.open(5, backend)
    again = alone.film(3)
    alone.close()
    # The first world goes on as if there had been no other.
    for other in (again, world.film(3)):
        for view in VIEWS:
            np.testing.assert_array_equal(other.views[view], clips[3].views[view])
            np.testing.assert_array_equal(other.masks[view], clips[3].masks[view])
        for name, array in clips[3].state.items():
            np.testing.assert_array_equal(other.state[name], array)
        np.testing.assert_array_equal(other.trajectory, clips[3].trajectory)
        assert other.captions == clips[3].captions and other.facts == clips[3].facts


def test_haze_halves_the_contrast_where_it_says() -> None:
    weather = draw_weather(np.random.default_rng(0), "fog")
    picture = np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), 200)]).astype(np.uint8)
    dark, light = (through_haze(p, np.full((2, 2), 0.5, np.float32), weather) for p in picture)
    np.testing.assert_allclose(light.astype(int) - dark, 100, atol=1)
    gone = through_haze(picture[0], np.zeros((2, 2), np.float32), weather)
    np.testing.assert_allclose(gone[0, 0] / 255, weather.horizon, atol=0.003)


def test_a_road_without_others_and_every_weather(backend: str) -> None:
    config = DrivingConfig(
        num_frames=2, width=32, height=32, supersample=1, max_agents=0, behaviours=("straight",),
        weathers=("fog", "dusk"),
    )  # fmt: skip
    world = config.open(1, backend)
    clips = [world.film(index) for index in range(6)]
    world.close()
    assert {clip.facts["weather"] for clip in clips} == {"fog", "dusk"}
    for clip in clips:
        assert clip.state["agent_centre"].shape == (2, 0, 3)
        assert not any((mask >= len(MASK_NAMES)).any() for mask in clip.masks.values())
