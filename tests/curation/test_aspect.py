"""``aspect=keep``: the nearest usual shape, undistorted, in the bucket of its name."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from curation_runs import run
from curation_videos import decode, scene, set_rotation, write_video
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.policy import PolicyConfig
from openwfm.curation.transcode import SHAPES, clip_size
from openwfm.data.shards import ShardIndex, bucket

sides = st.integers(2, 60).map(lambda n: 16 * n)


@settings(deadline=None)
@given(st.integers(16, 8000), st.integers(16, 8000), sides)
def test_sizes_are_multiples_of_16_and_turn_with_the_picture(width, height, side) -> None:
    across, down = clip_size(width, height, side)
    assert across % 16 == down % 16 == 0 and min(across, down) == side
    assert (across >= down) == (width >= height) or across == down
    assert clip_size(height, width, side) == (down, across)


@given(st.sampled_from(SHAPES), sides, st.floats(0.95, 1.05))
def test_each_shape_falls_into_its_own_bucket(shape, side, stretch) -> None:
    name = {(1, 1): "1_1", (4, 3): "4_3", (3, 4): "3_4", (16, 9): "16_9", (9, 16): "9_16"}[shape]
    size = clip_size(1000 * shape[0] * stretch, 1000 * shape[1], side)
    assert f"aspect_{name}/" in bucket(*size, 2.0)
    assert abs(size[0] * shape[1] / (size[1] * shape[0]) - 1) <= 8 / side + 1e-9


def test_the_published_sizes() -> None:
    assert clip_size(1920, 1080, 720) == (1280, 720)
    assert clip_size(2048, 858, 720) == (1280, 720)  # cinema is cropped to 16:9
    assert clip_size(1080, 1920, 720) == (720, 1280)
    assert clip_size(640, 480, 480) == (640, 480)


def circle(height: int, width: int, pixel_aspect: float = 1.0) -> np.ndarray:
    """A white disc on black, round where pixels are ``pixel_aspect`` wide."""
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1])[:, None, None] / 2
    inside = (x * pixel_aspect) ** 2 + y**2 < (min(height, width * pixel_aspect) / 3) ** 2
    return np.repeat((255 * inside[None, ..., None]).repeat(3, -1), 30, 0).astype(np.uint8)


@pytest.mark.parametrize(
    "height, width, turned, expected",
    [
        (108, 192, False, (112, 64)),
        (108, 192, True, (64, 112)),
        (120, 160, False, (80, 64)),
        (90, 240, False, (112, 64)),
        (64, 64, True, (64, 64)),
    ],
)
def test_a_circle_stays_round(tmp_path, height, width, turned, expected) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    file = write_video(raw / "a.mp4", circle(height, width))
    if turned:
        set_rotation(file)
    everything = PolicyConfig(rules={})
    run(raw, out, policy=everything, aspect="keep", size=64, min_shot_seconds=0)
    index = ShardIndex.open(out)
    assert len(index) == 1
    for key in index.keys:
        data = index.metadata(key)
        assert (data["width"], data["height"]) == expected
        picture = decode(index.read(key, "mp4"))[0, :, :, 0] > 128
        assert picture.shape == expected[::-1]
        across, down = picture.any(axis=0).sum(), picture.any(axis=1).sum()
        assert abs(int(across) - int(down)) <= 2
        assert abs(picture.any(axis=0).argmax() - (expected[0] - across) / 2) <= 1


def test_shapes_fill_their_buckets_and_short_clips_have_one(tmp_path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for seed, (width, height) in enumerate([(96, 54), (54, 96), (64, 48), (48, 64), (48, 48)]):
        frames = scene(14, seed=seed, height=height, width=width)
        write_video(raw / f"{seed}.mp4", frames)
    write_video(raw / "long.mp4", scene(290, seed=9, height=32, width=32, speed=0.05))
    run(raw, out, policy=PolicyConfig(rules={}), aspect="keep", size=32, min_shot_seconds=0)
    names = {shard.relative_to(out).parent.as_posix() for shard in out.rglob("shard-*.tar")}
    short = {f"resolution_lt_720/aspect_{s}/duration_0_5" for s in ("16_9", "9_16", "4_3", "3_4")}
    square = {f"resolution_lt_720/aspect_1_1/duration_{d}" for d in ("0_5", "5_10")}
    assert names == short | square


def test_square_is_what_it_was() -> None:
    """The crop and scale of ``square`` are those of before ``aspect`` existed."""
    from openwfm.curation.record import VideoFacts
    from openwfm.curation.transcode import Transcode

    stage = Transcode(size=64, fps=24, crf=12, keyframe_interval=12, max_seconds=10)
    for width, height, aspect in ((1920, 1080, 1.0), (720, 576, 1.42), (95, 71, 1.0)):
        facts = VideoFacts(
            width=width, height=height, fps=24.0, num_frames=2, seconds=1.0, codec="h264",
            pixel_format="yuv420p", rotation=0, pixel_aspect=aspect, variable_fps=False,
        )  # fmt: skip
        side = min(width * aspect, height)
        assert stage.crop(facts) == (round(side / aspect), round(side), 64, 64)
    assert stage.rate == Fraction(24)
