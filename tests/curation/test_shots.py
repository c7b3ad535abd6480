"""From probabilities to clips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.shots import divide
from openwfm.curation.transitions import find_transitions, is_doubtful, runs, shots_between


def test_hard_cut_and_dissolve() -> None:
    single, many = np.zeros(100), np.zeros(100)
    single[[29, 70]] = 0.9  # a cut after frame 29, and the middle of a dissolve
    many[29], many[65:77] = 0.9, 0.8
    cut, dissolve = find_transitions(single, many, 0.4)
    assert (cut.start, cut.end, cut.cut) == (29, 30, 30)
    assert (dissolve.start, dissolve.end) == (65, 77)
    assert shots_between([cut, dissolve], 100) == [(0, 29), (30, 65), (77, 100)]


def test_threshold_is_exclusive_and_the_wide_output_alone_cuts_nothing() -> None:
    single, many = np.full(10, 0.4), np.full(10, 0.9)
    assert find_transitions(single, many, 0.4) == []
    assert shots_between([], 10) == [(0, 10)]


def test_all_frames_transition() -> None:
    ones = np.ones(10)
    assert shots_between(find_transitions(ones, ones, 0.4), 10) == []


@given(st.lists(st.booleans(), max_size=60))
def test_runs_rebuild_the_mask(mask: list[bool]) -> None:
    rebuilt = np.zeros(len(mask), dtype=bool)
    found = runs(np.array(mask, dtype=bool))
    for start, end in found:
        assert start < end and not rebuilt[max(0, start - 1) : end].any()
        rebuilt[start:end] = True
    assert rebuilt.tolist() == mask


@given(st.integers(0, 50), st.integers(1, 300), st.floats(0.5, 20))
def test_divide_covers_the_shot_in_pieces_that_fit(start: int, length: int, limit: float) -> None:
    times = [frame / 24 for frame in range(start + length + 1)]
    parts = divide(start, start + length, times, limit)
    assert parts[0][0] == start and parts[-1][1] == start + length
    assert all(a[1] == b[0] for a, b in zip(parts, parts[1:], strict=False))
    assert all(end > begin for begin, end in parts)
    assert all(times[end] - times[begin] <= limit + 1 / 24 for begin, end in parts)


def test_divide_uses_as_few_parts_as_possible() -> None:
    times = [frame / 10 for frame in range(101)]
    assert divide(0, 100, times, 10.0) == [(0, 100)]
    assert divide(0, 100, times, pytest.approx(5.0).expected) == [(0, 50), (50, 100)]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95), st.floats(0.01, 0.5))
def test_without_doubt_no_error_within_the_margin_changes_a_cut(seed, threshold, margin) -> None:
    """The errors are the worst ones too: all frames up or down by the margin, or each its own."""
    rng = np.random.default_rng(seed)
    level = np.log(threshold / (1 - threshold))
    first, second = level - rng.uniform(margin, 6, (2, 50))
    for _ in range(rng.integers(3)):
        at, length = rng.integers(1, 44), rng.integers(1, 5)
        second[at : at + length] = level + rng.uniform(margin, 4, length)
        first[at + rng.integers(length)] = level + rng.uniform(margin, 4)
    single, many = _sigmoid(first), _sigmoid(second)
    if is_doubtful(single, many, threshold, margin):
        return
    expected = [(t.start, t.cut, t.end) for t in find_transitions(single, many, threshold)]
    for error in (-margin, margin, *(rng.uniform(-margin, margin, (2, 50)) for _ in range(4))):
        error = np.broadcast_to(np.asarray(error) * 0.999, (2, 50))
        moved = find_transitions(_sigmoid(first + error[0]), _sigmoid(second + error[1]), threshold)
        assert [(t.start, t.cut, t.end) for t in moved] == expected


@pytest.mark.parametrize(
    "changes, doubtful",
    [
        ({}, False),
        ({20: 0.99}, False),
        ({20: 0.42}, True),  # near the threshold
        ({20: 0.99, 21: 0.989}, True),  # which of two is the peak
        ({20: 0.99, 21: 0.6}, False),
        ({0: 0.99}, False),  # the video begins and ends here
        ({49: 0.99}, False),
    ],
)
def test_what_is_doubtful(changes, doubtful) -> None:
    single = np.full(50, 0.01, np.float32)
    for at, value in changes.items():
        single[at] = value
    assert is_doubtful(single, single, 0.4, 0.12) == doubtful


@pytest.mark.parametrize(
    "changes, doubtful",
    [
        ({49: 0.99, 50: 0.7}, False),  # the peak lies before
        ({49: 0.99, 50: 0.989}, True),  # or not
        ({49: 0.99, 48: 0.989}, False),  # neither of the two is judged
        ({50: 0.99, 49: 0.38, 48: 0.99}, True),  # 49 may join the two once it is corrected
        ({40: 0.42}, False),  # as near to the threshold, but not judged
        ({100: 0.42}, False),
        (dict.fromkeys(range(95, 110), 0.6) | {96: 0.99}, False),
        (dict.fromkeys(range(95, 150), 0.6) | {96: 0.99}, True),  # goes on beyond what is known
        (dict.fromkeys(range(55), 0.6) | {52: 0.99}, True),
    ],
)
def test_doubt_in_the_light_of_the_windows_around(changes, doubtful) -> None:
    single = np.full(150, 0.01, np.float32)
    for at, value in changes.items():
        single[at] = value
    assert is_doubtful(single, single, 0.4, 0.12, (50, 100)) == doubtful
