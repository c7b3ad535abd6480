"""The stage "quality": stillness, light, and what it leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.look import Look
from openwfm.curation.quality import (
    HALF,
    MeasureQuality,
    black_share,
    dominant_colour,
    light,
    signature,
    stillness,
    technical,
)
from openwfm.curation.record import Clip, Media

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def stage() -> MeasureQuality:
    stage = MeasureQuality()
    stage.setup()
    return stage


def look(stills: np.ndarray, thumbs: np.ndarray) -> Look:
    return Look(
        fps=24.0,
        stills=stills,
        still_times=np.arange(len(stills)) / 2,
        pairs=np.zeros((0, 2, 128, 128), np.uint8),
        pair_times=np.zeros(0),
        gaps=np.zeros(0),
        thumbs=thumbs,
    )


def clip(pictures: Look) -> Clip:
    return Clip(
        source="s", path="p", start_frame=0, end_frame=1, start_seconds=0.0, end_seconds=1.0,
        scores={"flow_mean": 1.0}, tags=("pan_left",), evidence={"motion": {"a": 1}},
        media=Media(video=b"", look=pictures),
    )  # fmt: skip


def random_look(seed: int, height: int = 96, width: int = 128) -> Look:
    random = np.random.default_rng(seed)
    stills = random.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    return look(stills, random.integers(0, 256, (9, 64, 85), dtype=np.uint8))


def test_adds_and_leaves_the_rest(stage) -> None:
    [done] = stage.process(clip(random_look(0)))
    assert done.scores["flow_mean"] == 1 and done.tags[0] == "pan_left"
    assert done.evidence["motion"] == {"a": 1}
    assert done.media.signature.shape == (9, 64) and done.media.signature.dtype == np.uint8
    assert json.loads(json.dumps(done.evidence)) == done.evidence
    assert len(json.dumps(done.evidence["quality"])) < 3000
    assert all(type(value) is float for value in done.scores.values())
    assert set(HALF) | {"technical", "black", "frozen"} < set(done.scores)


def test_equal_looks_give_equal_json(stage) -> None:
    again = MeasureQuality()
    again.setup()
    [one], [other] = stage.process(clip(random_look(1))), again.process(clip(random_look(1)))
    assert json.dumps([one.scores, one.tags, one.evidence]) == json.dumps(
        [other.scores, other.tags, other.evidence]
    )
    assert np.array_equal(one.media.signature, other.media.signature)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 90), st.integers(2, 90), st.integers(1, 4), st.integers(0, 9))
def test_any_look_is_measured(h: int, w: int, n: int, seed: int) -> None:
    stage = MeasureQuality()
    stage.setup()
    random = np.random.default_rng(seed)
    stills = random.integers(0, 256, (n, h, w, 3), dtype=np.uint8)
    side = (64, max(64, 64 * w // h)) if h <= w else (64 * h // w, 64)
    thumbs = random.integers(0, 256, (n, *side), dtype=np.uint8)
    [done] = stage.process(clip(look(stills, thumbs)))
    assert all(np.isfinite(value) for value in done.scores.values())
    assert 0 <= done.scores["technical"] <= 1


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries({name: st.floats(0, 20) for name in (*HALF, "black")}),
    st.sampled_from([*HALF, "black"]),
    st.floats(0.01, 10),
)
def test_technical_falls_with_every_defect(scores, worse: str, by: float) -> None:
    scores = {**scores, "black": scores["black"] / 20}
    by = min(by, 1 - scores["black"]) if worse == "black" else by
    before, after = technical(scores), technical({**scores, worse: scores[worse] + by})
    assert 0 <= after <= before <= 1
    if before > 1e-6 and by > 0.01:
        assert after < before


def test_technical_of_a_perfect_clip_and_half_of_it() -> None:
    perfect = {**dict.fromkeys(HALF, 0.0), "black": 0.0}
    assert technical(perfect) == 1
    for name, half in HALF.items():
        assert technical({**perfect, name: half}) == pytest.approx(0.5)


@pytest.mark.parametrize("level", [3, 128])
def test_frozen_survives_coding_noise(level) -> None:
    random = np.random.default_rng(0)
    still = np.full((48, 64, 64), level, np.float32) + random.normal(0, 0.5, (48, 64, 64))
    scores = stillness(cv2, np.rint(still).clip(0, 255).astype(np.float32))
    assert scores["frozen"] == 1 and scores["moving"] == 0


def test_half_frozen_is_half_and_a_slow_ball_is_not_frozen() -> None:
    frames = np.full((48, 64, 64), 120, np.float32)
    y, x = np.mgrid[:64, :64]
    for index in range(48):
        frames[index][(x - 20 - 0.4 * index) ** 2 + (y - 32) ** 2 < 25] = 220
    scores = stillness(cv2, frames)
    assert scores["frozen"] < 0.6 and scores["moving"] > 0.02
    moving = np.random.default_rng(0).uniform(0, 255, (24, 64, 64)).astype(np.float32)
    stopped = np.concatenate([moving, np.repeat(moving[-1:], 24, axis=0)])
    assert stillness(cv2, stopped)["frozen"] == pytest.approx(24 / 47)
    assert stillness(cv2, frames[:1])["frozen"] == 1


def test_black_counts_frames_and_allows_a_few_bright_pixels() -> None:
    thumbs = np.full((10, 64, 64), 20, np.uint8)
    thumbs[:, :2, :2] = 255
    assert black_share(thumbs) == 1
    thumbs[:3, :8] = 90
    assert black_share(thumbs) == pytest.approx(0.7)


@pytest.mark.parametrize(
    "rgb, name",
    [
        ((220, 30, 30), "red"), ((30, 200, 30), "green"), ((30, 30, 220), "blue"),
        ((230, 220, 40), "yellow"), ((128, 128, 128), "grey"), ((5, 5, 5), "black"),
        ((250, 250, 250), "white"),
    ],
)  # fmt: skip
def test_dominant_colour_of_stills(stage, rgb, name) -> None:
    stills = np.full((4, 16, 16, 3), rgb, np.uint8)
    assert dominant_colour(stills) == name
    [done] = stage.process(clip(look(stills, np.full((4, 64, 64), 99, np.uint8))))
    assert name in done.tags


def test_light_of_frames_and_hue_of_stills() -> None:
    thumbs = np.full((4, 64, 64), 51, np.uint8)
    colours = np.full((2, 8, 8, 3), (0, 255, 0), np.uint8)
    assert light(thumbs, colours) == {
        "luma_mean": 51, "luma_p95": 51, "contrast": 0, "hue": pytest.approx(1 / 3),
        "saturation": 1,
    }  # fmt: skip


def test_signature_is_a_mean_of_blocks_of_thumbs() -> None:
    thumbs = np.random.default_rng(1).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    expected = thumbs.reshape(3, 8, 8, 8, 8).mean(axis=(2, 4)).reshape(3, 64)
    assert np.abs(signature(thumbs) - expected).max() <= 0.51


def test_clipped_shares(stage) -> None:
    stills = np.full((3, 60, 100, 3), 128, np.uint8)
    stills[:, :, :30], stills[:, :, 80:] = 0, 255
    [done] = stage.process(clip(replace(random_look(2), stills=stills)))
    assert done.scores["clipped_dark"] == pytest.approx(0.3)
    assert done.scores["clipped_bright"] == pytest.approx(0.2)
