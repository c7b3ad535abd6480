"""Transcoding: size, rotation, bit depth and constant frame rate, checked on the pixels."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from curation_videos import decode, scene, set_rotation, write_video

from openwfm.curation.frames import read_frames
from openwfm.curation.probe import Probe
from openwfm.curation.record import Clip, RejectedError, Source
from openwfm.curation.transcode import Transcode, probe


def source(file: Path) -> Source:
    (probed,) = Probe().process(Source(id="s", path=file.name, num_bytes=1, file=file))
    assert isinstance(probed, Source)
    return probed


def clip(origin: Source, start: int, end: int) -> Clip:
    assert origin.file is not None
    times = [time for time, _ in read_frames(origin.file)]
    times.append(2 * times[-1] - times[-2])
    return Clip(
        source=origin.id, path=origin.path, origin=origin, start_frame=start, end_frame=end,
        start_seconds=times[start], end_seconds=times[end],
    )  # fmt: skip


def stage(size: int = 32, fps: float = 24) -> Transcode:
    return Transcode(size=size, fps=fps, crf=4, keyframe_interval=12, max_seconds=10)


def counting(num_frames: int, size: int = 32) -> np.ndarray:
    """Frame ``i`` is grey of level 20 + 4 i, so that a decoded frame says which it is."""
    levels = 20 + 4 * np.arange(num_frames)
    return np.repeat(levels, size * size * 3).reshape(num_frames, size, size, 3).astype(np.uint8)


def numbers(video: bytes) -> list[int]:
    return np.rint((decode(video).mean(axis=(1, 2, 3)) - 20) / 4).astype(int).tolist()


def test_same_rate_keeps_every_frame_of_the_span(tmp_path) -> None:
    origin = source(write_video(tmp_path / "a.mp4", counting(50)))
    transcode = stage()
    for start, end in ((0, 20), (23, 50), (5, 9)):  # in order, then back
        (made,) = transcode.process(clip(origin, start, end))
        assert numbers(made.media.video) == list(range(start, end))
        assert (made.num_frames, made.fps, made.width, made.height) == (end - start, 24, 32, 32)


@pytest.mark.parametrize("fps_in, fps_out", [(48, 24), (24, 48), (25, 24), (24, 12)])
def test_resampling_shows_the_nearest_frame(tmp_path, fps_in, fps_out) -> None:
    origin = source(write_video(tmp_path / "a.mp4", counting(48), fps=fps_in))
    (made,) = stage(fps=fps_out).process(clip(origin, 0, 48))
    assert made.num_frames == round(48 * fps_out / fps_in)
    shown = np.array(numbers(made.media.video))
    wanted = np.arange(made.num_frames) * fps_in / fps_out
    assert np.abs(shown - wanted).max() <= 0.5 * max(1, fps_in / fps_out) + 1e-9
    assert (np.diff(shown) >= 0).all()


def test_variable_rate_becomes_constant(tmp_path) -> None:
    """20 frames at 50 ms, then 10 at 100 ms: at 20 fps the slow half shows each frame twice."""
    pts = [50 * i for i in range(20)] + [1000 + 100 * i for i in range(10)]
    origin = source(write_video(tmp_path / "a.mp4", counting(30), pts=pts))
    assert origin.facts is not None and origin.facts.variable_fps
    (made,) = stage(fps=20).process(clip(origin, 0, 30))
    shown = np.array(numbers(made.media.video))
    truth = np.array(pts + [2000])
    assert abs(made.num_frames - 40) <= 1
    assert np.abs(truth[shown] - 50 * np.arange(len(shown))).max() <= 50
    assert sorted(set(shown.tolist())) == list(range(30))


def test_rotation_is_applied(tmp_path) -> None:
    frames = np.zeros((10, 48, 64, 3), np.uint8)
    frames[:, :, :24] = 255  # left third white
    file = set_rotation(write_video(tmp_path / "a.mp4", frames))
    origin = source(file)
    assert origin.facts is not None and origin.facts.rotation == 270
    (made,) = stage().process(clip(origin, 0, 10))
    picture = decode(made.media.video)[5, :, :, 0].astype(int)
    # A quarter turn clockwise brings the left to the top.
    assert picture[:8].mean() > 230 and picture[-16:].mean() < 25
    assert np.abs(picture[:, :4].mean() - picture[:, -4:].mean()) < 10


def test_centre_crop_and_area_resize(tmp_path) -> None:
    grey = scene(6, seed=3, height=64, width=128).mean(axis=3, keepdims=True).astype(np.uint8)
    frames = grey.repeat(3, axis=3)
    origin = source(write_video(tmp_path / "a.mp4", frames, crf=1))
    (made,) = stage().process(clip(origin, 0, 6))
    square = frames[:, :, 32:96].astype(np.float64)
    expected = square.reshape(6, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(decode(made.media.video) - expected).mean() < 1.5


@pytest.mark.parametrize("height, width", [(71, 95), (33, 17)])
def test_odd_sizes(tmp_path, height, width) -> None:
    frames = scene(6, seed=3, height=height, width=width)
    origin = source(write_video(tmp_path / "a.mp4", frames, pixel_format="yuv444p"))
    (made,) = stage().process(clip(origin, 0, 6))
    assert decode(made.media.video).shape == (6, 32, 32, 3)


def test_ten_bit_becomes_eight(tmp_path) -> None:
    origin = source(write_video(tmp_path / "a.mp4", counting(6), pixel_format="yuv420p10le"))
    assert origin.facts is not None and origin.facts.pixel_format == "yuv420p10le"
    (made,) = stage().process(clip(origin, 0, 6))
    assert numbers(made.media.video) == list(range(6))
    with av.open(io.BytesIO(made.media.video)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_keyframes_stand_on_a_grid_and_bytes_are_reproducible(tmp_path) -> None:
    frames = np.concatenate([scene(15, seed=1), scene(15, seed=2)])  # a cut inside
    origin = source(write_video(tmp_path / "a.mp4", frames))
    first, *others = (stage().process(clip(origin, 0, 30))[0] for _ in range(100))
    assert all(first.media.video == o.media.video and first.id == o.id for o in others)
    with av.open(io.BytesIO(first.media.video)) as container:
        keys = [i for i, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys == [0, 12, 24]


def test_a_gap_in_time_is_rejected_not_filled(tmp_path) -> None:
    pts = [40 * i for i in range(10)] + [3_600_000 + 40 * i for i in range(10)]
    origin = source(write_video(tmp_path / "a.mp4", counting(20), pts=pts))
    with pytest.raises(RejectedError, match="timestamp_gap"):
        stage().process(clip(origin, 0, 20))


def test_a_span_beyond_the_end_is_rejected_and_the_next_clip_is_fine(tmp_path) -> None:
    origin = source(write_video(tmp_path / "a.mp4", counting(20)))
    transcode = stage()
    good = clip(origin, 0, 10)
    with pytest.raises(RejectedError, match="truncated"):
        transcode.process(Clip(**{**vars(good), "start_frame": 15, "end_frame": 30}))
    assert numbers(transcode.process(good)[0].media.video) == list(range(10))


def test_a_card_that_is_not_there_stops_the_set_up() -> None:
    """No card was at hand to test the other case."""
    probe("libx264")
    with pytest.raises(ValueError, match=r"curation\.codec=h264_wrong"):
        probe("h264_wrong")
