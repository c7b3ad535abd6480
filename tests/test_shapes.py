from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwfm.shapes import Frames, LatentFrames, Seconds, Temporal

RATIOS = st.sampled_from([1, 2, 4, 8, 16])


@given(ratio=RATIOS, latents=st.integers(1, 10_000))
def test_latent_frames_and_frames_are_inverse(ratio: int, latents: int) -> None:
    temporal = Temporal(ratio=ratio)
    frames = temporal.frames(LatentFrames(latents))
    assert temporal.latent_frames(frames) == LatentFrames(latents)
    assert int(frames) == 1 + ratio * (latents - 1)


@given(ratio=RATIOS, frames=st.integers(-5, 10_000))
def test_other_frame_counts_name_the_nearest_valid_ones(ratio: int, frames: int) -> None:
    temporal = Temporal(ratio=ratio)
    valid = frames >= 1 and (frames - 1) % ratio == 0
    if valid:
        temporal.latent_frames(frames)
        return
    with pytest.raises(ValueError, match=f"num_frames={frames}") as error:
        temporal.latent_frames(frames)
    named = [int(word.strip(")")) for word in str(error.value).split() if word.strip(")").isdigit()]
    assert any(n >= 1 and (n - 1) % ratio == 0 for n in named)


def test_units_of_time_do_not_mix() -> None:
    assert Frames(3) + 2 == Frames(5)
    assert isinstance(Frames(3) - 1, Frames)
    for operation in (
        lambda: Frames(3) + LatentFrames(1),
        lambda: LatentFrames(3) - Frames(1),
        lambda: Frames(3) == LatentFrames(3),
        lambda: Frames(3) < LatentFrames(4),
        lambda: Frames(3) >= Seconds(1.0),
    ):
        with pytest.raises(TypeError, match="do not mix"):
            operation()


def test_seconds() -> None:
    assert Seconds(0.5).frames(24) == Frames(12)
    with pytest.raises(ValueError, match="fps=0"):
        Seconds(1).frames(0)


def test_ratio_is_checked() -> None:
    with pytest.raises(ValueError, match="temporal.ratio=6"):
        Temporal(ratio=6)
