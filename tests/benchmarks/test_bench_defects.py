"""The benchmark of defects: its arithmetic, and that it damages what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from openwfm.benchmarks import overlays
from openwfm.benchmarks.defect_clips import DEFECTS, Example, clean, look_at
from openwfm.benchmarks.defects import RULES, summarise, wilson
from openwfm.randomness import numpy_generator

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def example() -> Example:
    random = np.random.default_rng(0)
    coarse = random.integers(60, 200, (1, 12, 16, 3), dtype=np.uint8)
    frames = np.kron(coarse, np.ones((1, 10, 10, 1), np.uint8)).repeat(12, axis=0)
    return Example(frames=frames, origin="mosaic", crf=18)


@pytest.mark.parametrize("hits, total", [(0, 10), (3, 10), (10, 10), (97, 104)])
def test_interval_is_wilsons(hits: int, total: int) -> None:
    expected = binomtest(hits, total).proportion_ci(method="wilson")
    assert wilson(hits, total) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("name", DEFECTS)
def test_a_damaged_copy_is_another_one_and_the_same_again(example: Example, name: str) -> None:
    before = example.frames.copy()
    one, other = (DEFECTS[name](example, numpy_generator(4, name, 2)) for _ in range(2))
    assert np.array_equal(one.frames, other.frames) and one.origin == other.origin
    assert np.array_equal(example.frames, before)
    assert one.frames.dtype == np.uint8 and one.frames.shape[1:] == example.frames.shape[1:]
    assert name == "frozen" or not np.array_equal(one.frames, example.frames)


@pytest.mark.parametrize("kind", overlays.KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_letters_are_at_least_three_percent_high(kind: str, seed: int) -> None:
    frames = np.full((6, 200, 320, 3), 120, np.uint8)
    drawn = overlays.KINDS[kind](frames, np.random.default_rng(seed))
    changed = (np.abs(drawn.astype(int) - 120) > 30).any(axis=-1).any(axis=0)
    rows = np.nonzero(changed.any(axis=1))[0]
    assert np.ptp(rows) + 1 >= overlays.SMALLEST * 200


def test_paste_mixes_by_opacity_and_cuts_at_the_edge() -> None:
    frames = np.full((2, 10, 10, 3), 100, np.uint8)
    picture = np.full((4, 4, 4), 200, np.float32)
    picture[..., 3] = 0.5
    out = overlays.paste(frames, picture, -2, 8, 0.5)
    assert (out[:, :2, 8:] == 125).all() and out.sum() == 100 * 600 + 25 * 2 * 2 * 2 * 3


def test_the_moved_sign_is_no_longer_where_it_was(example: Example) -> None:
    moved = overlays.filmed_sign(example.frames, np.random.default_rng(1))
    assert (moved[0] != moved[-1]).mean() > 0.3


def test_look_is_that_of_the_coded_file(example: Example) -> None:
    look = look_at(example)
    assert look.stills.shape == (3, 120, 160, 3) and look.thumbs.shape == (12, 64, 85)
    assert np.abs(look.stills[0].astype(int) - example.frames[0]).mean() < 8


def test_halves_of_films_are_apart_and_pieces_repeat() -> None:
    pytest.importorskip("openwfm.simulation.natural").natural_videos()
    one, again, other = clean(0, 0, 64), clean(0, 0, 64), clean(1, 0, 64)
    assert np.array_equal(one.frames, again.frames)
    assert one.frames.shape[1] == 64 and not np.array_equal(one.frames[0], other.frames[0])


def test_summary_counts() -> None:
    rows = [
        {"class": name, **{rule.score: value for rule in RULES.values()}}
        for name in ("clean", "sign", *RULES)
        for value in ((0.0, 0.1, 9.0) if name in RULES else (0.0, 0.1, 0.0))
    ]
    results = {(row["defect"], row["clips"]): row for row in summarise(rows)}
    assert results["overlay", "overlay"]["hits"] == 1
    assert results["overlay", "sign"]["share"] == 0
    assert results["blurred", "clean"]["total"] == 3
