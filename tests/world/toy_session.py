"""A world small enough to know: a white dot on black, moved by (dx, dy), pushed by some noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from openwfm.world.session import ActionSpace, Noise, Session, SessionState

SIDE = 16
SPACE = ActionSpace(
    names=("dx", "dy"), units=("m", "m"), low=(-1.0, -1.0), high=(1.0, 1.0), rate=5.0
)


def draw(place: Tensor) -> Tensor:
    """b 2 in [0, SIDE) to b 3 SIDE SIDE."""
    axis = torch.arange(SIDE)
    x = (axis - place[:, :1]).abs()[:, None, None, :]
    y = (axis - place[:, 1:]).abs()[:, None, :, None]
    return (1 - (x + y) / 2).clamp(-1, 1).expand(-1, 3, -1, -1).contiguous()


class Dot(Session):
    actions = SPACE

    def __init__(self, place: Tensor, seeds: Sequence[int], wind: float = 0.1) -> None:
        super().__init__({"place": place}, draw(place), seeds)
        self.wind, self.calls = wind, 0

    def advance(
        self, memory: Mapping[str, Tensor], actions: Tensor, noise: Noise
    ) -> tuple[dict[str, Tensor], Tensor]:
        self.calls += 1
        push = self.wind * noise.normal("wind", (2,))
        place = (memory["place"] + actions + push).clamp(0, SIDE - 1)
        return {"place": place}, draw(place)

    def clone(self, state: SessionState) -> Dot:
        other = Dot(state.memory["place"], state.seeds, self.wind)
        other.restore(state)
        return other


def dots(count: int = 1, seed: int = 0, wind: float = 0.1) -> Dot:
    place = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * SIDE
    return Dot(place, [100 * seed + i for i in range(count)], wind)
