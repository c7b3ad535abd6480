import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.simulation.edit import (
    DEFECTS,
    DISSOLVE_FRAMES,
    NORMAL,
    Shot,
    Take,
    answers,
    dissolve,
    edited,
    plan_footage,
)
from openwfm.simulation.scenarios import SCENARIOS


def flat_shots(take: Take) -> list[np.ndarray]:
    """Shots of two by two pixels whose value is ten times the shot's number."""
    return [np.full((s.num_frames, 2, 2, 3), 10 * i, np.uint8) for i, s in enumerate(take.shots)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 14), st.integers(0, 2**40), st.sampled_from([12, 24, 30]))
def test_every_footage_holds_every_defect_and_dissolve(num_takes: int, seed: int, fps: int) -> None:
    takes = plan_footage(num_takes=num_takes, seed=seed, fps=fps)
    assert takes == plan_footage(num_takes=num_takes, seed=seed, fps=fps)
    kinds = [shot.kind for take in takes for shot in take.shots]
    assert set(kinds) == {NORMAL, *DEFECTS}
    assert any(fades for take in takes for fades in take.dissolves)
    defects = len(kinds) - kinds.count(NORMAL)
    assert defects == max(4, round(0.12 * len(kinds)))
    if num_takes > 1:
        assert {shot.scenario for take in takes for shot in take.shots} == set(SCENARIOS)
    for take in takes:
        assert 8 <= len(take.shots) <= 14
        for before, after, fades in zip(
            take.shots[:-1], take.shots[1:], take.dissolves, strict=True
        ):
            assert NORMAL in (before.kind, after.kind)
            assert not fades or before.kind == after.kind == NORMAL
            assert (before.seed, before.scenario) != (after.seed, after.scenario)
        for shot in take.shots:
            assert shot.num_frames >= 2 * DISSOLVE_FRAMES
            assert shot.num_frames <= 3.3 * fps + 1


@given(st.integers(1, 8), st.integers(0, 2**40))
@settings(max_examples=15, deadline=None)
def test_duplicates_repeat_a_normal_shot_of_another_take(num_takes: int, seed: int) -> None:
    takes = plan_footage(num_takes=num_takes, seed=seed, fps=24)
    for take in takes:
        for shot in take.shots:
            if shot.kind != "duplicate":
                assert shot.source is None
                continue
            assert shot.source is not None
            source = takes[shot.source[0]].shots[shot.source[1]]
            assert source.kind == NORMAL
            assert num_takes == 1 or shot.source[0] != take.index
            for name in ("seed", "look", "scenario", "camera", "num_frames"):
                assert getattr(shot, name) == getattr(source, name)


@given(st.integers(0, 2**40))
@settings(max_examples=15, deadline=None)
def test_frames_add_up_and_cuts_are_where_the_picture_changes(seed: int) -> None:
    for take in plan_footage(num_takes=2, seed=seed, fps=24):
        values = np.stack(list(edited(take, flat_shots(take))))[:, 0, 0, 0].astype(int)
        truth = answers(take, 24)
        assert len(values) == take.num_frames == truth["num_frames"]
        fading = {f for start, end in truth["dissolves"] for f in range(start, end + 1)}
        jumps = [f for f in range(1, len(values)) if values[f] != values[f - 1]]
        assert [f for f in jumps if f not in fading] == truth["cuts"]
        for index, shot in enumerate(truth["shots"]):
            middle = (shot["start"] + shot["end"]) // 2
            assert values[middle] == 10 * index
        total = sum(shot.num_frames for shot in take.shots)
        assert take.num_frames == total - DISSOLVE_FRAMES * sum(take.dissolves)


def test_a_dissolve_goes_evenly_from_one_to_the_other() -> None:
    black, white = np.zeros((12, 1, 1, 3), np.uint8), np.full((12, 1, 1, 3), 130, np.uint8)
    np.testing.assert_array_equal(dissolve(black, white)[:, 0, 0, 0], 10 * np.arange(1, 13))


def test_a_shot_between_two_dissolves_keeps_its_middle() -> None:
    shot = Shot(kind=NORMAL, scenario="fall", camera="still", seed=1, look=1, num_frames=30)
    take = Take(index=0, shots=(shot,) * 3, dissolves=(True, True))
    assert take.spans() == [(0, 30), (18, 48), (36, 66)]
    values = np.stack(list(edited(take, flat_shots(take))))[:, 0, 0, 0]
    np.testing.assert_array_equal(values[30:36], 10)
    assert len(values) == 66


def test_a_shot_of_another_length_than_planned_is_our_mistake() -> None:
    take = plan_footage(num_takes=1, seed=0, fps=24)[0]
    shots = flat_shots(take)
    shots[2] = shots[2][:-1]
    with pytest.raises(AssertionError):
        list(edited(take, shots))


def test_takes_stay_the_same_when_only_the_seed_is_the_same() -> None:
    one = plan_footage(num_takes=3, seed=1, fps=24)
    other = plan_footage(num_takes=3, seed=2, fps=24)
    seeds = {shot.seed for take in one for shot in take.shots if shot.source is None}
    assert len(seeds) == sum(shot.source is None for take in one for shot in take.shots)
    assert not seeds & {shot.seed for take in other for shot in take.shots}
