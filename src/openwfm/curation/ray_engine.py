"""Jobs on Ray Data: a streaming dataset of tasks over a pool of actors, on one machine or many.

Ray schedules, holds back, restarts and tries again; there is no scheduler of our own. Results go
where the local engine leaves them, so ``out`` must be a place that every node can reach.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from openwfm.curation.engine import (
    DEATHS,
    WORKER_DIED,
    WORKER_ENVIRONMENT,
    Failure,
    Job,
    Outcome,
    attempt,
)
from openwfm.extras import require

# More blocks than this make the dataset's own bookkeeping slow.
MAX_BLOCKS = 4096

Row = dict[str, Any]


class RayEngine:
    """``workers`` actors of one CPU each, on the process's `cluster`."""

    def __init__(self, workers: int) -> None:
        self.workers = max(1, workers)

    def run(self, job: Job, tasks: Sequence[Any]) -> Iterator[Outcome]:
        if not tasks:
            return
        ray, data = require("ray", extra="ray"), require("ray.data", extra="ray")
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        tries = ray.remote(num_cpus=0)(_Tries).remote()
        rows = [{"position": position, "task": task} for position, task in enumerate(tasks)]
        dataset = data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS)).map(
            _Actor,
            fn_constructor_args=(job, tries),
            # One in flight: a death costs no other task's try.
            compute=data.ActorPoolStrategy(
                size=min(self.workers, len(rows)), max_tasks_in_flight_per_actor=1
            ),
            num_cpus=1,
        )
        for row in dataset.iter_rows():
            failed = row["reason"] is not None
            yield row["position"], Failure(row["reason"], row["detail"]) if failed else None


class _Tries:
    """Knows what was begun and what is finished: Ray tries without end, and whole blocks again."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()
        self.finished: dict[int, Row] = {}

    def begin(self, position: int) -> Row | None:
        """The outcome, if there is one already."""
        if position not in self.finished:
            self.begun[position] += 1
            if self.begun[position] > DEATHS:
                self.finished[position] = _row(position, WORKER_DIED)
        return self.finished.get(position)

    def end(self, row: Row) -> None:
        self.finished[row["position"]] = row


class _Actor:
    def __init__(self, job: Job, tries: Any) -> None:
        import torch

        torch.set_num_threads(1)
        self.ray = require("ray", extra="ray")
        self.job, self.tries = job, tries
        self.job.setup()

    def __call__(self, row: Row) -> Row:
        position = int(row["position"])
        known: Row | None = self.ray.get(self.tries.begin.remote(position))
        if known is not None:
            return known
        outcome = _row(position, attempt(self.job, row["task"]))
        self.ray.get(self.tries.end.remote(outcome))
        return outcome


def _row(position: int, failure: Failure | None) -> Row:
    reason, detail = (failure.reason, failure.detail) if failure else (None, None)
    return {"position": position, "reason": reason, "detail": detail}


@contextmanager
def cluster(address: str | None, workers: int) -> Iterator[None]:
    """Ray for the block: this process's if it has one, that at ``address``, or one of its own."""
    ray = require("ray", extra="ray")
    if ray.is_initialized():
        yield
        return
    paths = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    ray.init(
        address=address,
        runtime_env={"env_vars": {**WORKER_ENVIRONMENT, **paths}},
        logging_level=logging.ERROR,
        log_to_driver=False,
        **({"num_cpus": max(1, workers), "include_dashboard": False} if address is None else {}),
    )
    try:
        yield
    finally:
        ray.shutdown()
