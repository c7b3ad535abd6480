"""A world one can enter: frames in, then one action at a time, one frame back for each.

A session holds a batch of rows that share nothing but the network. A row's future is a function of
its first frames, its seed and its actions: whatever else is in the batch, however often it was
forked or restored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.randomness import torch_generator


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """What an action is: one name and unit a dimension, bounds, and how many a second."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rate: float

    def __post_init__(self) -> None:
        for field in ("names", "units", "low", "high"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        sizes = {len(self.names), len(self.units), len(self.low), len(self.high)}
        if len(sizes) != 1 or not self.names:
            raise ValueError(f"action: {sorted(sizes)} names, units and bounds: must be as many")
        if any(not low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"action.low={self.low}: must be below action.high={self.high}")
        if not self.rate > 0:
            raise ValueError(f"action.rate={self.rate}: must be positive")

    def __len__(self) -> int:
        return len(self.names)

    def check(self, actions: Tensor, batch: int) -> Float[Tensor, "b a"]:
        """Actions of ``batch`` rows; one for all is repeated. Bounds are not enforced.

        Raises ValueError for another number of dimensions or rows, and for NaN.
        """
        rows = actions[None] if actions.ndim == 1 else actions
        if rows.ndim != 2 or rows.shape[1] != len(self):
            raise ValueError(
                f"action: shape {tuple(actions.shape)}: must have {len(self)} dimensions "
                f"({', '.join(self.names)})"
            )
        if len(rows) not in (1, batch):
            raise ValueError(
                f"action: {len(rows)} rows: must be {batch}, one for each of the batch"
            )
        if not bool(torch.isfinite(rows).all()):
            raise ValueError("action: must be finite")
        return rows.float().expand(batch, -1)


@dataclass(frozen=True, kw_only=True)
class SessionState:
    """All that a session is, but for the network: what `Session.restore` needs."""

    memory: Mapping[str, Tensor]
    frames: Float[Tensor, "b c h w"]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    def replaced(self, rows: Sequence[int], other: SessionState) -> SessionState:
        """This state with ``rows`` taken from ``other``, which has as many, in their order."""
        index = torch.tensor(list(rows), device=self.frames.device)
        with torch.inference_mode():
            memory = {
                name: tensor.index_copy(0, index, other.memory[name].to(tensor.dtype))
                for name, tensor in self.memory.items()
            }
            frames = self.frames.index_copy(0, index, other.frames)
        seeds, steps = list(self.seeds), list(self.steps)
        for row, seed, step in zip(rows, other.seeds, other.steps, strict=True):
            seeds[row], steps[row] = seed, step
        return SessionState(memory=memory, frames=frames, seeds=tuple(seeds), steps=tuple(steps))


class Session(ABC):
    """Rows of one world, each at its own moment of its own story.

    Subclasses say what they remember (``memory``: tensors with the batch first, each replaced and
    never written to) and how one step changes it (`advance`).
    """

    actions: ActionSpace

    def __init__(
        self, memory: Mapping[str, Tensor], frames: Float[Tensor, "b c h w"], seeds: Sequence[int]
    ) -> None:
        self._memory, self._frames, self._seeds = dict(memory), frames, tuple(seeds)
        self._steps = (0,) * len(self._seeds)
        if len(self._seeds) != len(frames):
            raise ValueError(f"seeds: {len(self._seeds)}: must be {len(frames)}, one for each row")

    @abstractmethod
    def advance(
        self,
        memory: Mapping[str, Tensor],
        actions: Float[Tensor, "b a"],
        noise: Noise,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b c h w"]]:
        """The memory after ``actions`` and the frames (pixels in [-1, 1]) that they led to."""

    @abstractmethod
    def clone(self, state: SessionState) -> Session:
        """Another session of the same world, at ``state``."""

    def __len__(self) -> int:
        return len(self._seeds)

    @property
    def frames(self) -> Float[Tensor, "b c h w"]:
        """What every row shows now; in [-1, 1]."""
        return self._frames

    @property
    def num_steps(self) -> tuple[int, ...]:
        """Of every row."""
        return self._steps

    @torch.inference_mode()
    def step(self, actions: Float[Tensor, "b a"] | Float[Tensor, " a"]) -> Float[Tensor, "b c h w"]:
        """The next frame of every row. Raises ValueError for actions that do not fit."""
        rows = self.actions.check(actions, len(self))
        noise = Noise(self._seeds, self._steps)
        self._memory, self._frames = self.advance(self._memory, rows, noise)
        self._steps = tuple(step + 1 for step in self._steps)
        return self._frames

    def state(self) -> SessionState:
        """Tensors are shared, not copied: nothing writes to them."""
        return SessionState(
            memory=dict(self._memory), frames=self._frames, seeds=self._seeds, steps=self._steps
        )

    def restore(self, state: SessionState) -> None:
        """Raises ValueError when ``state`` is of another kind of session."""
        if set(state.memory) != set(self._memory):
            raise ValueError(
                f"state: remembers {sorted(state.memory)}: must be {sorted(self._memory)}"
            )
        for name, tensor in self._memory.items():
            if state.memory[name].shape[1:] != tensor.shape[1:]:
                raise ValueError(
                    f"state.{name}: {tuple(state.memory[name].shape[1:])} a row: must be "
                    f"{tuple(tensor.shape[1:])}"
                )
        self._memory, self._frames = dict(state.memory), state.frames
        self._seeds, self._steps = tuple(state.seeds), tuple(state.steps)

    def fork(self, copies: int = 1) -> Session:
        """A session whose rows are ``copies`` of each row, in order; this one stays as it is.

        The copies keep their seeds, so equal actions give equal frames.
        """
        if copies < 1:
            raise ValueError(f"copies={copies}: must be at least 1")
        return self.select([row for row in range(len(self)) for _ in range(copies)])

    def select(self, rows: Sequence[int]) -> Session:
        """A session of these rows, in this order. Raises ValueError for rows there are not."""
        if not rows or min(rows) < 0 or max(rows) >= len(self):
            raise ValueError(f"rows={list(rows)}: must be some of 0 to {len(self) - 1}")
        if list(rows) == list(range(len(self))):
            return self.clone(self.state())
        index = torch.tensor(list(rows), device=self._frames.device)
        with torch.inference_mode():
            state = SessionState(
                memory={name: tensor[index] for name, tensor in self._memory.items()},
                frames=self._frames[index],
                seeds=tuple(self._seeds[row] for row in rows),
                steps=tuple(self._steps[row] for row in rows),
            )
        return self.clone(state)


class Noise:
    """Random numbers of one step: of (seed of the row, its step, purpose) and nothing else."""

    def __init__(self, seeds: Sequence[int], steps: Sequence[int]) -> None:
        self.rows = list(zip(seeds, steps, strict=True))  # (seed, step) of each

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
        """Standard normal numbers of ``shape`` for every row; forks of one row share theirs."""
        drawn = {
            (seed, step): torch.randn(
                shape, generator=torch_generator(seed, f"session/{purpose}", step)
            )
            for seed, step in set(self.rows)
        }
        return torch.stack([drawn[row] for row in self.rows])
