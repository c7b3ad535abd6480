"""The scoring of shot detectors: perfect, empty, shifted and doubled answers have known scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.benchmarks.shot_package import wheel_video
from openwfm.benchmarks.shot_score import TOLERANCE, Score, match, score
from openwfm.benchmarks.shots import plan
from openwfm.curation.transitions import find_transitions
from openwfm.simulation.edit import answers

Truth = tuple[list[int], list[tuple[int, int]]]


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Cuts and dissolves of 12 frames that are at least 40 frames apart."""
    kinds = draw(st.lists(st.booleans(), max_size=12))
    places = [40 * (index + 1) + draw(st.integers(0, 8)) for index in range(len(kinds))]
    pairs = list(zip(places, kinds, strict=True))
    return [p for p, fades in pairs if not fades], [(p, p + 12) for p, fades in pairs if fades]


def spans_of(truth: Truth) -> list[tuple[int, int]]:
    cuts, dissolves = truth
    return [(cut - 1, cut) for cut in cuts] + dissolves


@settings(max_examples=50, deadline=None)
@given(truths(), st.integers(-TOLERANCE, TOLERANCE))
def test_perfect_within_the_tolerance(truth: Truth, shift: int) -> None:
    moved = [(start + shift, end + shift) for start, end in spans_of(truth)]
    cuts, dissolves, false = match(moved, *truth)
    assert (len(cuts), len(dissolves), false) == (len(truth[0]), len(truth[1]), [])


@settings(max_examples=50, deadline=None)
@given(truths())
def test_beyond_the_tolerance_all_is_wrong(truth: Truth) -> None:
    for shift in (15, -15):
        moved = [(start + shift, end + shift) for start, end in spans_of(truth)]
        cuts, dissolves, false = match(moved, *truth)
        assert not cuts and not dissolves and len(false) == len(moved)


@settings(max_examples=50, deadline=None)
@given(truths(), st.randoms(use_true_random=False))
def test_a_second_answer_is_false_and_a_missing_one_is_missed(truth: Truth, random) -> None:
    spans = spans_of(truth)
    kept = [span for span in spans if random.random() < 0.7]
    cuts, dissolves, false = match(kept + kept, *truth)
    assert len(cuts) + len(dissolves) == len(kept) == len(false)


def test_one_wide_span_finds_one_transition() -> None:
    assert match([(0, 100)], [20, 50], []) == ({0}, set(), [])


def test_f1_is_the_harmonic_mean() -> None:
    one = Score(true=10, found=8, false=2)
    assert one.f1 == pytest.approx(2 / (1 / one.precision + 1 / one.recall)) == 0.8
    assert Score(true=0, found=0, false=0).f1 == 0


def test_scores_add_up_over_films() -> None:
    sheet = [
        {"cuts": [50, 100], "dissolves": [(150, 162)]},
        {"cuts": [40], "dissolves": []},
    ]
    found = [[(49, 50), (155, 156)], [(39, 40), (80, 81)]]
    scores = score(found, sheet)
    cut, dissolve = scores["cut"], scores["dissolve"]
    assert (cut["true"], cut["found"], cut["false"], cut["f1"]) == (3, 2, 1, round(4 / 6, 4))
    assert (dissolve["true"], dissolve["found"], dissolve["f1"]) == (1, 1, round(2 / 3, 4))


def test_the_held_out_films_are_enough() -> None:
    sheet = [answers(take, 24) for take in plan(24, 7001, 24)]
    assert sum(len(entry["cuts"]) for entry in sheet) >= 150
    assert sum(len(entry["dissolves"]) for entry in sheet) >= 60
    assert plan(24, 7001, 24) == plan(24, 7001, 24)


def test_ideal_probabilities_score_one() -> None:
    """From the answer sheet to probabilities, transitions and back."""
    sheet = [answers(take, 24) for take in plan(4, 1, 24)]
    found = []
    for entry in sheet:
        single, many = np.zeros(entry["num_frames"]), np.zeros(entry["num_frames"])
        for cut in entry["cuts"]:
            single[cut - 1] = many[cut - 1] = 0.9
        for start, end in entry["dissolves"]:
            single[(start + end) // 2] = 0.6
            many[start:end] = 0.8
        transitions = find_transitions(single, many, 0.4)
        assert [t.cut for t in transitions if t.end - t.start == 1] == entry["cuts"]
        found.append([(t.start, t.end) for t in transitions])
    scores = score(found, sheet)
    assert scores["cut"]["f1"] == scores["dissolve"]["f1"] == 1


def test_the_wheel_has_its_video() -> None:
    assert wheel_video().stat().st_size > 1e6
