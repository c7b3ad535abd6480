"""Memory of worlds that one can enter: over many steps, and of many futures at once."""

from __future__ import annotations

import gc
import time
from typing import Any

import torch

from openwfm.benchmarks.tokenizer_memory import Peak, apart
from openwfm.world import World
from openwfm.world.action import ActionWorld
from openwfm.world.session import Session

SETTLED = 500  # steps before memory is read first: libraries set up what they need once


def memory_over_steps(world: str, count: int) -> list[dict[str, Any]]:
    """MiB gained, and at the peak, after each tenth of ``count`` steps, in a process of its own."""
    rows: list[dict[str, Any]] = apart(_walk, world, count)
    return rows


def _walk(folder: str, count: int) -> list[dict[str, Any]]:
    session = _begin(folder)
    rows = []
    for _ in range(min(SETTLED, count)):
        session.step(_middle(session))
    gc.collect()
    memory, started = Peak(), time.perf_counter()
    for _ in range(10):
        for _ in range(count // 10):
            session.step(_middle(session))
        done = session.num_steps[0] - min(SETTLED, count)
        rows.append(
            {
                "steps": done,
                "growth_mib": memory.grown_mib(),
                "peak_mib": memory.mib(),
                "frames_per_second": done / (time.perf_counter() - started),
                "finite": bool(torch.isfinite(session.frames).all()),
            }
        )
    return rows


def memory_of_many(world: str, number: int) -> dict[str, float]:
    """MiB at the peak of ``number`` forks that make a step, and of as many worlds that each make
    one, above what the first world holds; each in a process of its own."""
    return {
        "forks_mib": apart(_forks, world, number),
        "worlds_mib": apart(_worlds, world, number),
    }


def _forks(folder: str, number: int) -> float:
    session = _begin(folder)
    memory = Peak()
    copies = session.fork(number)
    copies.step(_middle(copies))
    return memory.mib()


def _worlds(folder: str, number: int) -> float:
    first = _begin(folder)
    memory = Peak()
    others = [_begin(folder) for _ in range(number)]
    mib = memory.mib()
    assert len(others) == number and len(first) == 1  # all of them are alive
    return mib


def _begin(folder: str) -> Session:
    """A session of a world of its own, after a step."""
    world = World.load(folder)
    assert isinstance(world, ActionWorld)
    rows, columns = world.facts.size or (64, 64)
    session = world.session(torch.zeros(1, 3, world.facts.max_condition, rows, columns), seeds=[0])
    session.step(_middle(session))
    return session


def _middle(session: Session) -> torch.Tensor:
    space = session.actions
    return (torch.tensor(space.low) + torch.tensor(space.high)) / 2
