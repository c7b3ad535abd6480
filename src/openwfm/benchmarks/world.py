"""``openwfm bench world``: stepping an action world, remembering, forking, planning.

Speeds are those of this machine with its threads; pictures that a session begins with are drawn at
random, for the time of a step does not depend on what it shows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.benchmarks.clock import Clock
from openwfm.benchmarks.tokenizer import by_turns
from openwfm.benchmarks.world_memory import memory_of_many, memory_over_steps
from openwfm.randomness import torch_generator
from openwfm.world import Sampling, World
from openwfm.world import action as action_world
from openwfm.world.action import ActionWorld, NextFrame
from openwfm.world.session import Session

PREFIX = 8  # steps before the moment at which plans are made
HORIZON = 8  # steps of a plan
WARM = 10  # steps before any is timed
TOLERANCE = 1e-4  # largest difference of a pixel in [-1, 1], of a batch and of its rows alone
FUTURES, CANDIDATES = (1, 4, 16), (1, 8, 32)
TITLES = {
    "steps": "one row, one action at a time: from action to picture",
    "memory": "resident memory of a session over its steps",
    "forks": "forks of a session beside worlds of their own",
    "planning": f"candidates of {HORIZON} steps after {PREFIX} steps that all share",
}


@dataclass(frozen=True, kw_only=True)
class WorldBenchConfig:
    """``world`` is a folder with an action world; ``tables`` names some of `TITLES`.

    ``num_steps`` of a session are watched for memory; ``quick`` takes a tenth of all counts.
    """

    world: str | None = None
    tables: tuple[str, ...] | None = None
    repeats: int = 3
    num_steps: int = 10_000
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tables is not None:
            object.__setattr__(self, "tables", tuple(self.tables))
        if unknown := set(self.tables or ()) - set(TITLES):
            raise ValueError(f"tables={sorted(unknown)}: must be some of {', '.join(TITLES)}")
        for name in ("repeats", "num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    def count(self, whole: int) -> int:
        """``whole``, or a tenth of it."""
        return max(2, whole // 10) if self.quick else whole


def bench_world(config: WorldBenchConfig) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The tables of `TITLES` that are asked for, as they are done, a dict a row.

    Raises ValueError without a world that takes actions.
    """
    if config.world is None:
        raise ValueError("weights: missing: must be a folder with an action world")
    world = World.load(config.world)
    if not isinstance(world, ActionWorld):
        raise ValueError(f"weights={config.world}: must be an action world")
    makers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "steps": lambda: [one_step(world, number, config) for number in (1, 2, 3)],
        "memory": lambda: memory_over_steps(str(config.world), config.count(config.num_steps)),
        "forks": lambda: [
            forks(world, number, config) for number in FUTURES[: 2 if config.quick else None]
        ],
        "planning": lambda: planning(world, config),
    }
    for name in config.tables or TITLES:
        yield name, makers[name]()


def beginning(world: ActionWorld, seed: int = 0) -> Float[Tensor, "1 c n h w"]:
    """Smooth pictures of random colours, as many as the network looks back to."""
    rows, columns = world.facts.size or (64, 64)
    generator = torch_generator(seed, "bench world")
    coarse = torch.rand(1, 3 * world.facts.max_condition, 8, 8, generator=generator) * 2 - 1
    fine = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear")
    return fine.view(1, 3, world.facts.max_condition, rows, columns)


def moves(world: ActionWorld, *shape: int, seed: int = 0) -> Float[Tensor, "... a"]:
    """Actions within their bounds, uniformly."""
    low, high = torch.tensor(world.action.low), torch.tensor(world.action.high)
    draws = torch.rand(*shape, len(low), generator=torch_generator(seed, "bench world/moves"))
    return low + draws * (high - low)


def one_step(world: ActionWorld, num_steps: int, config: WorldBenchConfig) -> dict[str, Any]:
    """``num_steps`` of the sampler for each frame; shares are of the whole step."""
    session = world.session(
        beginning(world), seeds=[config.seed], sampling=Sampling(num_steps=num_steps)
    )
    actions = moves(world, WARM + config.count(100 * config.repeats))
    for action in actions[:WARM]:
        session.step(action)
    seconds = []
    for action in actions[WARM:]:
        started = time.perf_counter()
        session.step(action)
        seconds.append(time.perf_counter() - started)
    centiles = statistics.quantiles(seconds, n=20)
    return {
        "sampler_steps": num_steps,
        "frames_per_second": len(seconds) / sum(seconds),
        "p50_ms": 1e3 * statistics.median(seconds),
        "p95_ms": 1e3 * centiles[-1],
        **_shares(session, actions[WARM : WARM + 20]),
        "steps": len(seconds),
        "threads": torch.get_num_threads(),
    }


def _shares(session: Session, actions: Tensor) -> dict[str, float]:
    clock = Clock()
    started = time.perf_counter()
    with (
        clock.watch(NextFrame, "__call__", "of_network"),
        clock.watch(action_world, "decode_frames", "of_decoder"),
    ):
        for action in actions:
            session.step(action)
    return clock.shares(time.perf_counter() - started)


def forks(world: ActionWorld, number: int, config: WorldBenchConfig) -> dict[str, Any]:
    """``number`` futures of one moment: forks, and worlds that were loaded and led there alone.

    Making counts the way to the moment. Asserts that both show the same.
    """
    assert config.world is not None
    here = _led(world, config.seed)
    path = moves(world, 4, number, seed=1)

    def alone() -> Session:
        """Each of as many worlds costs what one costs."""
        return _led(World.load(str(config.world)), config.seed)

    made = by_turns({"forks": lambda: here.fork(number), "alone": alone}, config.repeats)
    together, singles = here.fork(number), [here.fork() for _ in range(number)]

    def batch() -> Tensor:
        return torch.stack([together.step(actions) for actions in path], 2)

    def one_by_one() -> Tensor:
        frames = [
            torch.stack([single.step(actions[row]) for actions in path], 2)
            for row, single in enumerate(singles)
        ]
        return torch.cat(frames)

    difference = float((batch() - one_by_one()).abs().max())
    assert difference <= TOLERANCE, f"{number} forks differ from rows alone by {difference:.1e}"
    stepped = by_turns({"batch": batch, "alone": one_by_one}, config.repeats)
    frames = number * len(path)
    mib = memory_of_many(config.world, number)
    return {
        "number": number,
        "fork_ms": 1e3 * statistics.median(made["forks"]),
        "worlds_ms": 1e3 * number * statistics.median(made["alone"]),
        **mib,
        "frames_per_second": frames / statistics.median(stepped["batch"]),
        "alone_frames_per_second": frames / statistics.median(stepped["alone"]),
        "difference": difference,
    }


def _led(world: World, seed: int) -> Session:
    """A session after `PREFIX` steps."""
    assert isinstance(world, ActionWorld)
    session = world.session(beginning(world), seeds=[seed])
    _end(session, moves(world, PREFIX))
    return session


def planning(world: ActionWorld, config: WorldBenchConfig) -> list[dict[str, Any]]:
    """Candidates a second: in one batch of forks, forked one by one, and each from the very
    beginning. Asserts that they end in the same pictures."""
    numbers = CANDIDATES[: 2 if config.quick else None]
    return [_candidates(world, number, config) for number in numbers]


def _candidates(world: ActionWorld, number: int, config: WorldBenchConfig) -> dict[str, Any]:
    here, path = _led(world, config.seed), moves(world, HORIZON, number, seed=2)
    few = path[:, :8]  # one by one, none is faster than another
    ways: dict[str, Callable[[], Tensor]] = {
        "batch": lambda: _end(here.fork(number), path),
        "forked": lambda: torch.cat([_end(here.fork(), one) for one in few.unbind(1)]),
        "replayed": lambda: torch.cat(
            [_end(_led(world, config.seed), one) for one in few.unbind(1)]
        ),
    }
    ends = [way()[: few.shape[1]] for way in ways.values()]
    difference = max(float((end - ends[0]).abs().max()) for end in ends)
    assert difference <= TOLERANCE, f"{number} candidates differ by {difference:.1e}"
    seconds = by_turns(dict(ways), config.repeats)
    counts = {"batch": number, "forked": few.shape[1], "replayed": few.shape[1]}
    rates = {name: counts[name] / statistics.median(times) for name, times in seconds.items()}
    return {
        "candidates": number,
        "per_second": rates["batch"],
        "forked_alone_per_second": rates["forked"],
        "replayed_alone_per_second": rates["replayed"],
        "faster_than_forked": rates["batch"] / rates["forked"],
        "faster_than_replayed": rates["batch"] / rates["replayed"],
        "difference": difference,
    }


def _end(session: Session, actions: Float[Tensor, "s ..."]) -> Float[Tensor, "b c h w"]:
    """What is seen after all ``actions``."""
    for action in actions:
        session.step(action)
    return session.frames
