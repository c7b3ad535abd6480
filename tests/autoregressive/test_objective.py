"""Exactly the right targets count, with and without a begin of video."""

from __future__ import annotations

import math

import pytest
import torch

from openwfm.autoregressive.objective import NextTokenConfig, counted_targets, next_token_loss

FRAME, FRAMES, VOCABULARY = 4, 3, 7


def sure_logits(tokens, wrong=()):
    """Logits that are almost certain of each next token, but for the positions ``wrong``."""
    logits = torch.zeros(*tokens.shape, VOCABULARY)
    logits.scatter_(-1, tokens[..., None], 30.0)
    for row, position in wrong:
        logits[row, position] = 0
        logits[row, position, (int(tokens[row, position]) + 1) % VOCABULARY] = 30.0
    return logits


@pytest.mark.parametrize("begin", [False, True])
def test_a_wrong_token_counts_only_after_the_given_frames(begin):
    tokens = torch.randint(VOCABULARY, (2, FRAME * FRAMES))
    counted = counted_targets(torch.tensor([1, 2]), FRAME, FRAMES)
    start = 0 if begin else 1
    for row in range(2):
        for position in range(start, FRAME * FRAMES):
            logits = sure_logits(tokens, [(row, position)])[:, start:]
            found = next_token_loss(logits, tokens, counted, FRAME, 0.0)
            counts = position >= FRAME * (1 + row)
            # 8 and 4 counted targets; one that is wrong costs 30 nats.
            assert float(found.loss) == pytest.approx(30 / 12 if counts else 0, abs=1e-4)
            accuracy = found.accuracy[position // FRAME]
            if counts:
                total = 4 if position // FRAME == 1 else 8
                assert float(accuracy) == pytest.approx(1 - 1 / total)
    assert math.isnan(float(found.accuracy[0]))


def test_without_given_frames_the_begin_decides():
    tokens = torch.randint(VOCABULARY, (1, FRAME * FRAMES))
    counted = counted_targets(torch.tensor([0]), FRAME, FRAMES)
    assert bool(counted.all())
    first_wrong = sure_logits(tokens, [(0, 0)])
    with_begin = next_token_loss(first_wrong, tokens, counted, FRAME, 0.0)
    without = next_token_loss(first_wrong[:, 1:], tokens, counted, FRAME, 0.0)
    assert float(with_begin.loss) == pytest.approx(30 / 12, abs=1e-4)
    assert float(without.loss) == pytest.approx(0, abs=1e-4)


def test_z_loss_is_of_counted_positions_only():
    tokens = torch.zeros(1, FRAME * FRAMES, dtype=torch.long)
    counted = counted_targets(torch.tensor([2]), FRAME, FRAMES)
    logits = torch.zeros(1, FRAME * FRAMES, VOCABULARY)
    logits[:, : 2 * FRAME] = 1e4
    found = next_token_loss(logits, tokens, counted, FRAME, 0.5)
    assert float(found.z) == pytest.approx(math.log(VOCABULARY) ** 2, rel=1e-5)
    expected = math.log(VOCABULARY) + 0.5 * math.log(VOCABULARY) ** 2
    assert float(found.loss) == pytest.approx(expected, rel=1e-5)


def test_gradients_reach_counted_positions_only():
    tokens = torch.randint(VOCABULARY, (1, FRAME * FRAMES))
    counted = counted_targets(torch.tensor([1]), FRAME, FRAMES)
    logits = torch.randn(1, FRAME * FRAMES, VOCABULARY, requires_grad=True)
    next_token_loss(logits, tokens, counted, FRAME, 1e-3).loss.backward()
    touched = logits.grad.abs().sum(-1)[0] > 0
    assert touched.tolist() == counted[0].tolist()


def test_mistakes_are_named():
    tokens = torch.zeros(1, 8, dtype=torch.long)
    everything = torch.ones(1, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match="of 6 positions"):
        next_token_loss(torch.zeros(1, 6, 3), tokens, everything, 4, 0.0)
    with pytest.raises(ValueError, match="none is counted"):
        next_token_loss(torch.zeros(1, 8, 3), tokens, ~everything, 4, 0.0)
    for values, name in (
        ({"z_loss": -1.0}, "z_loss=-1"),
        ({"min_frames": 3}, "min_frames=3"),
        ({"text_dropout": 1.0}, "text_dropout=1"),
    ):
        with pytest.raises(ValueError, match=name):
            NextTokenConfig(**values)
