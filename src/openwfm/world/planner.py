"""Planning in a world: try sequences of actions in copies of a session, keep what pays.

Random shooting; the cross-entropy method (Rubinstein 1999); model-predictive path integrals
(Williams et al., arXiv 1509.01149). All candidates share the prefix: the session is forked, not
replayed, and the noise of the world is the same for all, so that they differ by actions alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.randomness import torch_generator
from openwfm.world.session import Session

# (frames b c h w in [-1, 1], actions b a) -> reward of each row.
Reward = Callable[[Tensor, Tensor], Tensor]
METHODS = ("random", "cem", "mppi")


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """``candidates`` sequences of ``horizon`` actions are tried in each of ``iterations`` rounds.

    ``elites`` of them set the next round's mean and spread (cem); ``temperature`` divides returns,
    in standard deviations of the round, before they become weights (mppi). ``spread`` is the first
    round's standard deviation, in half-widths of the action's bounds. ``repeat`` holds each action
    for so many steps. At most ``batch`` candidates run at once.
    """

    method: str = "cem"
    horizon: int = 8
    candidates: int = 64
    iterations: int = 3
    elites: int = 8
    temperature: float = 0.5
    spread: float = 0.7
    repeat: int = 1
    discount: float = 1.0
    batch: int = 64

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"planner.method={self.method}: must be one of {', '.join(METHODS)}")
        for name in ("horizon", "candidates", "iterations", "elites", "repeat", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"planner.{name}={getattr(self, name)}: must be at least 1")
        if self.elites > self.candidates:
            raise ValueError(
                f"planner.elites={self.elites}: must be at most candidates={self.candidates}"
            )
        for name in ("temperature", "spread", "discount"):
            if not getattr(self, name) > 0:
                raise ValueError(f"planner.{name}={getattr(self, name)}: must be positive")


@dataclass(frozen=True)
class Plan:
    """The best sequence that was tried and its return; ``mean`` is where the search ended."""

    actions: Float[Tensor, "s a"]
    value: float
    mean: Float[Tensor, "s a"]
    history: tuple[float, ...]


class Planner:
    """Plans for the single row of a session, again and again; remembers its last plan."""

    def __init__(self, config: PlannerConfig, reward: Reward, *, seed: int = 0) -> None:
        self.config, self.reward, self.seed = config, reward, seed
        self._mean: Tensor | None = None
        self._count = 0

    def act(self, session: Session) -> Float[Tensor, " a"]:
        """The first action of a new plan, which starts from the last one, a step later."""
        plan = self.plan(session)
        mean = plan.mean if self.config.method != "random" else plan.actions
        self._mean = torch.cat((mean[1:], mean[-1:]))
        return plan.actions[0]

    def reset(self) -> None:
        """Forget the last plan (a new episode)."""
        self._mean = None

    def plan(self, session: Session) -> Plan:
        """Raises ValueError for a session of several rows."""
        if len(session) != 1:
            raise ValueError(f"session: {len(session)} rows: must be 1 (use select)")
        config, space = self.config, session.actions
        low, high = torch.tensor(space.low), torch.tensor(space.high)
        half = (high - low) / 2
        steps = -(-config.horizon // config.repeat)
        shape = (steps, len(space))
        mean = self._start((low + high) / 2, shape)
        spread = (config.spread * half).expand(shape)
        generator = torch_generator(self.seed, "planner", self._count)
        self._count += 1
        best, best_value, history = mean, -torch.inf, []
        for number in range(1 if config.method == "random" else config.iterations):
            draws = torch.randn((config.candidates, *shape), generator=generator)
            if config.method == "random":
                uniform = torch.rand((config.candidates, *shape), generator=generator)
                tried = low + uniform * (high - low)
            else:
                tried = mean + spread * draws
            if number == 0 and self._mean is not None:
                tried[0] = mean
            elif number:
                tried[0] = best
            tried = torch.minimum(torch.maximum(tried, low), high)
            values = self.returns(session, tried)
            top = int(values.argmax())
            if float(values[top]) > best_value:
                best, best_value = tried[top].clone(), float(values[top])
            history.append(best_value)
            mean, spread = self._learn(tried, values, spread)
        count = config.horizon
        whole = [x.repeat_interleave(config.repeat, 0)[:count] for x in (best, mean)]
        return Plan(whole[0], best_value, whole[1], tuple(history))

    def returns(self, session: Session, tried: Float[Tensor, "k s a"]) -> Float[Tensor, " k"]:
        """Discounted sums of rewards, in batches of `PlannerConfig.batch`."""
        config, parts = self.config, []
        for chunk in tried.split(config.batch):
            copies = session.fork(len(chunk))
            total = torch.zeros(len(chunk))
            for step in range(config.horizon):
                actions = chunk[:, step // config.repeat]
                rewards = self.reward(copies.step(actions), actions).float().cpu()
                if rewards.shape != (len(chunk),) or not bool(torch.isfinite(rewards).all()):
                    raise ValueError(
                        f"reward: shape {tuple(rewards.shape)}: must be {len(chunk)} finite numbers"
                    )
                total = total + config.discount**step * rewards
            parts.append(total)
        return torch.cat(parts)

    def _start(self, middle: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self._mean is None:
            return middle.expand(shape)
        return self._mean[:: self.config.repeat][: shape[0]]

    def _learn(self, tried: Tensor, values: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        if config.method == "cem":
            elite = tried[values.topk(config.elites).indices]
            floor = 0.05 * spread if config.elites > 1 else spread
            return elite.mean(0), torch.maximum(elite.std(0, correction=0), floor)
        if config.method == "mppi":
            scaled = (values - values.max()) / (values.std(correction=0) + 1e-9)
            weights = torch.softmax(scaled / config.temperature, 0)
            return torch.einsum("k,ksa->sa", weights, tried), spread
        return tried[int(values.argmax())], spread
