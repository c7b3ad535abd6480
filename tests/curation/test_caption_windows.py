"""Windows cover the clip as the reference cuts it; pictures are the frames that they claim."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from curation_videos import scene, write_video
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.look import Look
from openwfm.curation.record import Clip, Media
from openwfm.curation.windows import WindowConfig, cut_windows, picture_indices, window_pictures


def test_the_references_rule() -> None:
    def cut(n: int) -> list[tuple[int, int]]:
        return cut_windows(n, WindowConfig())

    assert cut(0) == cut(3) == []
    assert cut(4) == [(0, 4)]
    assert cut(100) == [(0, 100)]
    assert cut(256) == [(0, 256)]
    assert cut(383) == [(0, 383)]
    assert cut(384) == [(0, 256), (256, 384)]
    assert cut(639) == [(0, 256), (256, 639)]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3000), st.integers(1, 300), st.data())
def test_windows_are_the_whole_clip(total: int, frames: int, data: st.DataObject) -> None:
    least = data.draw(st.integers(1, frames))
    fewest = data.draw(st.integers(1, frames))
    config = WindowConfig(frames=frames, min_remainder=least, min_frames=fewest)
    windows = cut_windows(total, config)
    assert [i for window in windows for i in range(*window)] == (
        list(range(total)) if total >= fewest else []
    )
    lengths = [end - start for start, end in windows]
    assert all(length == frames for length in lengths[:-1])
    assert len(lengths) < 2 or least <= lengths[-1] < frames + least


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500), st.integers(1, 400), st.floats(0.5, 120), st.integers(1, 64))
def test_pictures_are_spread_over_the_window(start, length, fps, most) -> None:
    config = WindowConfig(max_pictures=most)
    indices = picture_indices(start, start + length, fps, config)
    assert 1 <= len(indices) <= min(most, length)
    assert indices == sorted(set(indices))
    assert start <= indices[0] and indices[-1] < start + length
    gaps = np.diff([start - 0.5, *indices, start + length - 0.5])
    assert gaps.max() <= 1 + length / len(indices)


def brightness(picture: bytes) -> tuple[float, tuple[int, ...]]:
    with av.open(io.BytesIO(picture)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return float(frame.mean()), frame.shape


def test_pictures_of_the_clip_are_the_frames_that_were_asked_for(tmp_path) -> None:
    levels = np.linspace(20, 230, 60).round()
    frames = np.broadcast_to(levels[:, None, None, None], (60, 48, 96, 3)).astype(np.uint8)
    video = write_video(tmp_path / "a.mp4", frames, fps=12).read_bytes()
    clip = Clip(
        source="s", path="a", start_frame=0, end_frame=60, start_seconds=0, end_seconds=5,
        fps=12.0, num_frames=60, media=Media(video=video),
    )  # fmt: skip
    config = WindowConfig(frames=30, min_remainder=10, max_side=32)
    windows = cut_windows(60, config)
    for window, pictures in zip(windows, window_pictures(clip, windows, config), strict=True):
        indices = picture_indices(*window, 12.0, config)
        assert len(pictures) == len(indices) == 5
        for index, picture in zip(indices, pictures, strict=True):
            level, shape = brightness(picture)
            assert abs(level - levels[index]) < 3 and shape == (16, 32, 3)


def test_stills_of_the_source(tmp_path) -> None:
    stills = scene(6, seed=1)
    look = Look(
        fps=10.0, stills=stills, still_times=np.arange(6) * 1.0 + 0.5, pairs=np.zeros((0, 2, 1, 1)),
        pair_times=np.zeros(0), gaps=np.zeros(0), thumbs=np.zeros((60, 2, 2), np.uint8),
    )  # fmt: skip
    clip = Clip(
        source="s", path="a", start_frame=0, end_frame=60, start_seconds=0, end_seconds=6,
        fps=10.0, num_frames=60, media=Media(video=b"", look=look),
    )  # fmt: skip
    config = WindowConfig(pictures_of="source", max_pictures=2)
    first, second, third = window_pictures(clip, [(0, 40), (40, 60), (1, 4)], config)
    assert (len(first), len(second), len(third)) == (2, 2, 1)
    assert abs(brightness(second[1])[0] - stills[5].mean()) < 3
    assert abs(brightness(third[0])[0] - stills[0].mean()) < 3
    assert brightness(first[0])[1] == stills.shape[1:]
    without = Clip(**{**vars(clip), "media": Media(video=b"")})
    with pytest.raises(ValueError, match="windows.pictures_of=source"):
        window_pictures(without, [(0, 40)], config)


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": 0}, {"min_remainder": 257}, {"min_frames": 0}, {"pictures_per_second": 0},
        {"max_pictures": 0}, {"max_side": 8}, {"quality": 0}, {"pictures_of": "film"},
    ],
)  # fmt: skip
def test_bad_windows(changes) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=f"windows.{name}={changes[name]}"):
        WindowConfig(**changes)
