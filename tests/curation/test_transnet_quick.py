"""The bfloat16 pass: near to fp32, and never the last word on a doubtful cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_transnet import noise

from openwfm.curation import shots
from openwfm.curation.transitions import find_transitions, logit
from openwfm.curation.transnet import TransNet, load_weights, predict
from openwfm.curation.transnet_quick import DOUBT, TwoPass

THRESHOLD = 0.4


@pytest.fixture(scope="module")
def both() -> tuple[TransNet, TwoPass]:
    state = load_weights()
    exact = TransNet(state)
    return exact, TwoPass(exact, state, THRESHOLD)


def test_the_first_pass_is_near_and_the_cuts_are_the_same(both) -> None:
    exact, two = both
    frames = noise(75)
    expected, found = predict(exact, frames), predict(two, frames)
    cuts = [
        [(t.start, t.cut, t.end) for t in find_transitions(*p, THRESHOLD)]
        for p in (expected, found)
    ]
    assert cuts[0] == cuts[1] and cuts[0]
    window = torch.from_numpy(noise(100))
    for quick, true in zip(two.quick(window), exact.window(window, None)[:2], strict=True):
        error = np.abs(logit(quick.numpy()) - logit(true.numpy()))
        assert error.max() < DOUBT


def test_a_doubtful_window_is_computed_in_fp32(both, monkeypatch) -> None:
    exact, two = both
    frames = torch.from_numpy(noise(100))
    before = two.num_exact
    monkeypatch.setattr(two, "quick", lambda _: (torch.full((50,), THRESHOLD),) * 2)
    [found] = two.windows([frames])
    assert two.num_exact == before + 1
    torch.testing.assert_close(found, exact.window(frames, None)[:2])
    monkeypatch.setattr(two, "quick", lambda _: (torch.full((50,), 0.001),) * 2)
    [found] = two.windows([frames])
    assert found[0].max() == found[0].min() and two.num_exact == before + 1


@pytest.mark.parametrize("runner_up, again", [(0.9, 0), (0.989, 2)])
def test_a_cut_between_windows_is_judged_with_both(both, monkeypatch, runner_up, again) -> None:
    _, two = both
    firsts = torch.full((3, 50), 0.001)
    firsts[1, 49], firsts[2, 0] = 0.99, runner_up
    stream = iter(firsts)
    monkeypatch.setattr(two, "quick", lambda _: (next(stream),) * 2)
    windows = [torch.from_numpy(noise(100))] * 3
    before = two.num_exact
    assert len(list(two.windows(windows))) == 3
    # Of two peaks as high, the second window too is computed again, beside the exact first one.
    assert (two.num_exact - before > 0) == (again > 0)


@pytest.mark.parametrize("quick", [True, False])
def test_the_processor_chooses(monkeypatch, quick) -> None:
    monkeypatch.setattr(shots, "is_quick_here", lambda: quick)
    assert isinstance(shots.detector(0.4), TwoPass if quick else TransNet)
