"""From probabilities to clips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwfm.curation.shots import divide
from openwfm.curation.transitions import find_transitions, runs, shots_between


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
