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
    monkeypatch.setattr(two, "quick", lambda _: (torch.full((50,), THRESHOLD),) * 2)
    before = two.num_exact
    single, many, after = two.window(frames, None)
    assert two.num_exact == before + 1 and after is not None
    torch.testing.assert_close((single, many), exact.window(frames, None)[:2])
    monkeypatch.setattr(two, "quick", lambda _: (torch.full((50,), 0.001),) * 2)
    assert two.window(frames, after)[2] is None and two.num_exact == before + 1


@pytest.mark.parametrize("quick", [True, False])
def test_the_processor_chooses(monkeypatch, quick) -> None:
    monkeypatch.setattr(shots, "is_quick_here", lambda: quick)
    assert isinstance(shots.detector(0.4), TwoPass if quick else TransNet)
