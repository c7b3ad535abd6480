from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from openwfm.nn.packed import Packs, packable


class Two(Packs):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(48, 80, bias=False), nn.Linear(80, 48, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        self.unpack()
        return self.two(self.one(x))


class Owner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Two().requires_grad_(False)


@pytest.fixture
def owner() -> Owner:
    owner = Owner()
    if not packable(owner.inner.one.weight):
        pytest.skip("no oneDNN")
    return owner


def held(owner: Owner) -> tuple[Tensor, ...]:
    copies = owner.inner.packed(owner.inner.one, owner.inner.two, release=True)
    assert owner.inner.one.weight.is_meta and owner.inner.one.weight.shape == (80, 48)
    return copies


@pytest.mark.parametrize(
    "ask",
    [
        lambda owner: owner.state_dict(),
        lambda owner: owner.inner(torch.zeros(1, 48)),
        lambda owner: owner.eval(),
        lambda owner: owner.float(),
        lambda owner: copy.deepcopy(owner),
        lambda owner: pickle.dumps(owner),
    ],
)
def test_originals_come_back_bit_by_bit(owner: Owner, ask: Callable[[Owner], object]) -> None:
    wanted = owner.inner.one.weight.clone()
    held(owner)
    ask(owner)
    assert torch.equal(owner.inner.one.weight, wanted)
    held(owner)


def test_loaded_weights_are_what_is_packed_next(owner: Owner) -> None:
    held(owner)
    other = {key: torch.randn_like(value) for key, value in Owner().state_dict().items()}
    owner.load_state_dict(other)
    assert torch.equal(held(owner)[0].to_dense(), other["inner.one.weight"])


def test_reading_what_was_let_go_is_an_error(owner: Owner) -> None:
    held(owner)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        owner.inner.one.weight.sum().item()


def test_weights_that_train_stay(owner: Owner) -> None:
    inner = owner.inner
    inner.packed(inner.one, inner.two, release=False)
    assert not inner.one.weight.is_meta
    inner.one.requires_grad_(True)
    inner.packed(inner.one, inner.two, release=True)
    assert not inner.one.weight.is_meta and not inner.two.weight.is_meta
