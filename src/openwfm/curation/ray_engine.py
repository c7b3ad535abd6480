"""Jobs on Ray Data: a streaming dataset of tasks over a pool of actors, on one machine or many.

Ray schedules, holds back and restarts; there is no scheduler of our own. Results go where the
local engine leaves them, so ``out`` must be a place that every node can reach.
"""

from __future__ import annotations

import logging
import os
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


class RayEngine:
    """``workers`` actors of one CPU each, on the process's `cluster`."""

    def __init__(self, workers: int) -> None:
        self.workers = max(1, workers)

    def run(self, job: Job, tasks: Sequence[Any]) -> Iterator[Outcome]:
        if not tasks:
            return
        data = require("ray.data", extra="ray")
        _quiet(data)
        lost = set(range(len(tasks)))
        for outcome in self._pass(data, job, tasks, sorted(lost)):
            lost.discard(outcome[0])
            yield outcome
        # A lost block takes its neighbours along: what is missing runs again, each alone.
        for position in sorted(lost):
            found = (
                list(self._pass(data, job, tasks, [position])) if len(tasks) > MAX_BLOCKS else []
            )
            yield from found or [(position, WORKER_DIED)]

    def _pass(
        self, data: Any, job: Job, tasks: Sequence[Any], positions: Sequence[int]
    ) -> Iterator[Outcome]:
        """Outcomes of the tasks at ``positions``, but for those that killed their workers."""
        rows = [{"position": position, "task": tasks[position]} for position in positions]
        pool = data.ActorPoolStrategy(
            size=min(self.workers, len(rows)), max_tasks_in_flight_per_actor=1
        )
        dataset = data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS)).map(
            _Actor,
            fn_constructor_args=(job,),
            compute=pool,
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=DEATHS - 1,
        )
        for row in dataset.iter_rows():
            failed = row["reason"] is not None
            yield row["position"], Failure(row["reason"], row["detail"]) if failed else None


class _Actor:
    def __init__(self, job: Job) -> None:
        import torch

        torch.set_num_threads(1)
        self.job = job
        self.job.setup()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        failure = attempt(self.job, row["task"])
        return {
            "position": row["position"],
            "reason": failure and failure.reason,
            "detail": failure and failure.detail,
        }


@contextmanager
def cluster(address: str | None, workers: int) -> Iterator[None]:
    """Ray for the block: this process's if it has one, that at ``address``, or one of its own."""
    ray = require("ray", extra="ray")
    if ray.is_initialized():
        yield
        return
    environment = {
        "env_vars": {**WORKER_ENVIRONMENT, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    }
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    if address is None:
        ray.init(num_cpus=workers, include_dashboard=False, runtime_env=environment, **quiet)
    else:
        ray.init(address=address, runtime_env=environment, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _quiet(data: Any) -> None:
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a task that kills its worker is rejected, the rest goes on
    logging.getLogger("ray.data").setLevel(logging.ERROR)
