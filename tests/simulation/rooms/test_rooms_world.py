"""Filmed rooms against their own truth: pixels, depths, masks, cameras and words agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from openwfm.data.members import read_camera, read_npz
from openwfm.simulation.film import encode
from openwfm.simulation.lens import project
from openwfm.simulation.rooms.captions import counted
from openwfm.simulation.rooms.config import RoomsConfig
from openwfm.simulation.rooms.palette import COLOURS
from openwfm.simulation.rooms.parts import Solids
from openwfm.simulation.rooms.world import FAR, SEEN_SHARE, RoomsWorld
from openwfm.simulation.worlds import WorldClip

CONFIG = RoomsConfig(width=96, height=64, num_frames=9, fps=6, supersample=1)
MOVING = ("orbit", "dolly", "truck", "walk")


@pytest.fixture(scope="module")
def world(backend: str) -> Iterator[RoomsWorld]:
    world = RoomsWorld(CONFIG, 0, backend)
    yield world
    world.close()


@pytest.fixture(scope="module")
def clips(world: RoomsWorld) -> list[WorldClip]:
    return [world.film(index) for index in range(8)]


def pixel_rays(clip: WorldClip, frame: int, shift: tuple[float, float]) -> np.ndarray:
    """World directions ``h w 3`` of unit depth through pixel centres moved by ``shift`` pixels."""
    track = clip.cameras["main"]
    height, width = clip.views["main"].shape[1:3]
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    image = np.stack([columns + shift[0], rows + shift[1], np.ones_like(rows)], axis=-1)
    local = image @ np.linalg.inv(track.intrinsics[frame]).T
    return local @ track.camera_to_world[frame, :3, :3].T


def points_of(clip: WorldClip, frame: int) -> np.ndarray:
    """World points ``h w 3`` of every pixel centre, from the stored depth."""
    depth = clip.depth["main"][frame].astype(np.float64)
    eye = clip.cameras["main"].camera_to_world[frame, :3, 3]
    return eye + depth[..., None] * pixel_rays(clip, frame, (0, 0))


def matches(clip: WorldClip, i: int, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel centres of frame i, where frame j shows the same points, and whether it does: n 2,
    n 2, and n (they lie in the picture, at the depth that j has there)."""
    track = clip.cameras["main"]
    points = points_of(clip, i).reshape(-1, 3)
    there = project(points, track.intrinsics[j], track.camera_to_world[j])
    here = project(points, track.intrinsics[i], track.camera_to_world[i])[:, :2]
    height, width = clip.views["main"].shape[1:3]
    inside = (there[:, 2] > 0) & (there[:, :2] >= 0).all(1)
    inside &= (there[:, 0] < width) & (there[:, 1] < height)
    near = clip.depth["main"][i].reshape(-1) < 0.5 * FAR
    cells = np.where(inside[:, None], there[:, :2], 0).astype(int)
    seen = clip.depth["main"][j].astype(np.float64)[cells[:, 1], cells[:, 0]]
    agree = np.abs(seen - there[:, 2]) < 0.03 * there[:, 2]
    return here, there[:, :2], inside & near & agree


def test_a_clip_is_whole(clips: list[WorldClip]) -> None:
    for index, clip in enumerate(clips):
        assert clip.views["main"].shape == (9, 64, 96, 3) and clip.views["main"].dtype == np.uint8
        assert clip.masks["main"].dtype == np.uint8 and clip.depth["main"].dtype == np.float16
        assert clip.masks["main"].max() < len(clip.mask_names)
        assert clip.group == index
        assert clip.facts["num_objects"] >= 6 and clip.facts["room"] in clip.tags
        things = len(clip.state["name"])
        assert things == len(clip.mask_names) - 1
        assert clip.state["position"].shape == clip.state["size"].shape == (things, 3)
        track = clip.cameras["main"]
        steps = np.diff(track.camera_to_world[:, :3, 3], axis=0)
        length = np.linalg.norm(steps, axis=1).sum()
        assert clip.facts["path_length"] == pytest.approx(length, abs=1e-9)


def test_a_clip_does_not_depend_on_what_was_filmed_before(
    clips: list[WorldClip], backend: str
) -> None:
    fresh = RoomsWorld(CONFIG, 0, backend)
    alone = fresh.film(3)
    fresh.close()
    for name in ("views", "masks", "depth"):
        np.testing.assert_array_equal(getattr(clips[3], name)["main"], getattr(alone, name)["main"])
    assert encode(clips[3], "rooms", 0, 3) == encode(alone, "rooms", 0, 3)


def test_another_seed_films_another_room(clips: list[WorldClip], backend: str) -> None:
    world = RoomsWorld(CONFIG, 1, backend)
    other = world.film(0)
    world.close()
    assert (other.views["main"] != clips[0].views["main"]).mean() > 0.5


def test_known_solids_land_within_half_a_pixel(clips: list[WorldClip]) -> None:
    """Each pixel shows what a ray meets that leaves the stored camera within half a pixel of the
    pixel's centre. Round parts are left out: they are drawn with flat sides."""
    for clip in clips:
        state = clip.state
        solids = Solids(
            centres=state["part_position"], rotations=state["part_rotation"],
            halves=state["part_half_size"], owners=state["part_thing"],
        )  # fmt: skip
        round_things = {
            owner
            for owner, shape in zip(state["part_thing"], state["part_shape"], strict=True)
            if shape != "box"
        }
        eye = clip.cameras["main"].camera_to_world[4, :3, 3]
        shown = clip.masks["main"][4, ::3, ::2].ravel().astype(int) - 1
        found, depths = [], []
        for shift in ((0, 0), (-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
            rays = pixel_rays(clip, 4, shift)[::3, ::2].reshape(-1, 3)
            depth, owner = solids.cast(np.broadcast_to(eye, rays.shape), rays)
            found.append(owner)
            depths.append(depth)
        owners = np.stack(found)
        flat = ~np.isin(owners, list(round_things)).any(0) & ~np.isin(shown, list(round_things))
        assert flat.mean() > 0.2
        assert (owners[:, flat] == shown[flat]).any(0).mean() > 0.999
        # And the depth is that of the ray through the centre.
        calm = flat & (owners == owners[0]).all(0) & (owners[0] >= 0)
        stored = clip.depth["main"][4, ::3, ::2].ravel()[calm].astype(np.float64)
        error = np.abs(stored - depths[0][calm]) / depths[0][calm]
        assert np.median(error) < 1e-3 and np.quantile(error, 0.98) < 0.02


def test_depth_carries_one_frame_into_another(clips: list[WorldClip]) -> None:
    """Points of the first frame are found again at the same depth in the fourth, with the same
    colour, unless something hides them."""
    tested = 0
    for clip in clips:
        here, there, same = matches(clip, 0, 3)
        if clip.facts["motion"] not in MOVING or same.sum() < 1000:
            continue
        tested += 1
        assert same.mean() > 0.35
        frames = clip.views["main"].astype(float)
        a, b = here[same].astype(int), there[same].astype(int)
        first = frames[0][a[:, 1], a[:, 0]]
        moved = np.abs(frames[3][b[:, 1], b[:, 0]] - first).mean()
        unmoved = np.abs(frames[3][a[:, 1], a[:, 0]] - first).mean()
        assert moved < 0.75 * unmoved, (clip.facts["motion"], moved, unmoved)
    assert tested >= 3


def sampson(
    here: np.ndarray, there: np.ndarray, essential: np.ndarray, k: np.ndarray
) -> np.ndarray:
    """Squared pixels, for matches ``n 2`` (Hartley and Zisserman, 11.4.3)."""
    inverse = np.linalg.inv(k)
    matrix = inverse.T @ essential @ inverse
    a, b = (np.column_stack([points, np.ones(len(points))]) for points in (here, there))
    lines, back = a @ matrix.T, b @ matrix
    numerator = np.einsum("ni,ni->n", b, lines) ** 2
    error: np.ndarray = numerator / (lines[:, :2] ** 2 + back[:, :2] ** 2).sum(1)
    return error


def test_true_matches_have_no_sampson_error(clips: list[WorldClip]) -> None:
    """Nor would they under another path: one that is turned by half a degree is noticed."""
    tested = 0
    for clip in clips:
        here, there, same = matches(clip, 0, 8)
        if clip.facts["motion"] not in MOVING or same.sum() < 50:
            continue
        tested += 1
        track = clip.cameras["main"]
        relative = np.linalg.inv(track.camera_to_world[8]) @ track.camera_to_world[0]
        x, y, z = relative[:3, 3]
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        essential = cross @ relative[:3, :3]
        k = track.intrinsics[0]
        assert sampson(here[same], there[same], essential, k).max() < 1e-16
        c, s = np.cos(np.radians(0.5)), np.sin(np.radians(0.5))
        wrong = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ essential
        assert np.median(sampson(here[same], there[same], wrong, k)) > 1e-2
    assert tested >= 2


def test_captions_name_what_covers_pixels_and_nothing_else(clips: list[WorldClip]) -> None:
    for clip in clips:
        share = {
            index: max((frame == index + 1).mean() for frame in clip.masks["main"])
            for index in range(len(clip.state["name"]))
        }
        names = [str(name) for name in clip.state["name"]]
        visible = [names[i] for i, part in share.items() if part >= SEEN_SHARE]
        caption = clip.caption.lower()
        for name in {*names} - {"floor", "wall", "ceiling", "ground"}:
            if name in visible:
                continue
            phrase = counted([name])[0]
            assert f"{phrase}," not in caption and f"{phrase} and" not in caption, (name, caption)
        # The largest visible thing is named, with its number.
        biggest = max(
            (i for i in share if names[i] not in ("floor", "wall", "ceiling", "ground")),
            key=lambda i: int((clip.masks["main"] == i + 1).sum()),
        )
        assert counted([n for n in visible if n == names[biggest]])[0] in caption
        assert clip.facts["room"] in caption


def test_a_named_colour_is_the_colour_of_its_pixels(backend: str) -> None:
    config = RoomsConfig(
        width=96, height=64, num_frames=2, supersample=1, kinds=("living room",), motions=("pan",)
    )
    world = RoomsWorld(config, 0, backend)
    clips = [world.film(index) for index in range(5)]
    world.close()
    tested = 0
    for clip in clips:
        for index, name in enumerate(map(str, clip.state["name"])):
            colour, _, noun = name.partition(" ")
            pixels = clip.views["main"][clip.masks["main"] == index + 1]
            if noun not in ("sofa", "armchair") or len(pixels) < 300:
                continue
            tested += 1
            seen = np.median(pixels, axis=0)
            likeness = {
                word: seen @ rgb / np.linalg.norm(seen) / np.linalg.norm(rgb)
                for word, rgb in COLOURS.items()
                if word != "white"
            }
            best = max(likeness, key=lambda word: likeness[word])
            assert best == (colour if colour != "white" else "grey"), name
    assert tested >= 3


def test_the_sky_is_the_background_at_the_far_plane(clips: list[WorldClip]) -> None:
    for clip in clips:
        sky = clip.masks["main"] == 0
        assert not (sky.any() and clip.facts["indoors"])
        np.testing.assert_allclose(clip.depth["main"][sky].astype(float), FAR, rtol=1e-3)
        assert (clip.depth["main"][~sky] < FAR / 2).all()


def test_clips_of_one_room_share_it_and_its_group(backend: str) -> None:
    config = RoomsConfig(width=64, height=48, num_frames=2, supersample=1, clips_per_room=2)
    world = RoomsWorld(config, 0, backend)
    first, second, third = (world.film(index) for index in (0, 1, 2))
    world.close()
    assert (first.group, second.group, third.group) == (0, 0, 1)
    for name, values in first.state.items():
        np.testing.assert_array_equal(values, second.state[name])
    assert first.facts["room_size"] != third.facts["room_size"]
    poses = [clip.cameras["main"].camera_to_world for clip in (first, second)]
    assert np.abs(poses[0] - poses[1]).max() > 0.01


def test_members_come_back_from_their_bytes(clips: list[WorldClip]) -> None:
    members = encode(clips[0], "rooms", 0, 0)
    track = read_camera(members["camera.npz"])["main"]
    np.testing.assert_array_equal(track.camera_to_world, clips[0].cameras["main"].camera_to_world)
    masks = read_npz(members["mask.npz"], "mask.npz")
    assert tuple(masks["names"]) == clips[0].mask_names
    np.testing.assert_array_equal(masks["main"], clips[0].masks["main"])
