"""Sessions: forks, states and batches change nothing about a row's future."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openwfm.world.session import ActionSpace
from tests.world.toy_session import SPACE, dots


def moves(count: int, seed: int, rows: int = 1) -> Tensor:
    return torch.rand(count, rows, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_forks_and_equal_actions_give_equal_frames_and_leave_the_parent_alone() -> None:
    session = dots(3)
    session.step(torch.zeros(2))
    before = session.frames.clone()
    copies = session.fork(4)
    assert len(copies) == 12
    for action in moves(5, 1):
        frames = copies.step(action[0])
        assert torch.equal(frames, frames[::4].repeat_interleave(4, 0))
    assert torch.equal(session.frames, before)
    for action in moves(5, 1):
        session.step(action[0])
    assert torch.equal(session.frames, copies.frames[::4])


def test_a_row_does_not_know_its_batch() -> None:
    together, path = dots(5), moves(6, 2, rows=5)
    alone = [together.select([row]) for row in range(5)]
    for actions in path:
        together.step(actions)
    for row, session in enumerate(alone):
        for actions in path:
            session.step(actions[row])
        assert torch.equal(session.frames[0], together.frames[row])


def test_restoring_a_state_replays_the_same_story() -> None:
    session = dots(2)
    session.step(torch.ones(2))
    state = session.state()
    first = [session.step(action[0]) for action in moves(4, 3)]
    session.restore(state)
    again = [session.step(action[0]) for action in moves(4, 3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert session.num_steps == (5, 5)


def test_rows_of_another_session_take_their_step_along() -> None:
    """A row that joins later goes on as it would have where it came from."""
    old, young = dots(3), dots(1, seed=7)
    for _ in range(4):
        old.step(torch.zeros(2))
    mixed = old.clone(old.state().replaced([1], young.state()))
    assert mixed.num_steps == (4, 0, 4)
    for action in moves(3, 4):
        mixed.step(action[0])
        old.step(action[0])
        young.step(action[0])
    assert torch.equal(mixed.frames[1], young.frames[0])
    assert torch.equal(mixed.frames[[0, 2]], old.frames[[0, 2]])


def test_seeds_matter() -> None:
    one, other = dots(1), dots(1)
    other._seeds = (5,)
    assert not torch.equal(one.step(torch.zeros(2)), other.step(torch.zeros(2)))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (torch.zeros(3), r"2 dimensions \(dx, dy\)"),
        (torch.zeros(2, 2), "2 rows: must be 3"),
        (torch.zeros(1, 1, 2), "shape"),
        (torch.tensor([0.0, torch.nan]), "finite"),
    ],
)
def test_actions_that_do_not_fit_are_named(action: Tensor, message: str) -> None:
    session = dots(3)
    with pytest.raises(ValueError, match=message):
        session.step(action)
    assert session.num_steps == (0, 0, 0)


def test_other_mistakes_are_named() -> None:
    session = dots(2)
    with pytest.raises(ValueError, match="copies=0"):
        session.fork(0)
    with pytest.raises(ValueError, match=r"rows=\[2\]"):
        session.select([2])
    with pytest.raises(ValueError, match=r"action\.low"):
        ActionSpace(names=("a",), units=("m",), low=(1.0,), high=(0.0,), rate=5.0)
    with pytest.raises(ValueError, match=r"action\.rate=0"):
        ActionSpace(names=("a",), units=("m",), low=(-1.0,), high=(0.0,), rate=0)
    assert len(SPACE) == 2
