"""Engines run a job over many tasks; the local one with worker processes, a task at a time each."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

import torch

from openwfm.curation.record import StopRunError

logger = logging.getLogger(__name__)

DEATHS = 2  # so many lost workers reject a task: the first may have been another's fault


class Job(Protocol):
    """Travels to every worker; ``do`` leaves its result where the driver can read it.

    ``do`` may be called again for a task that was done in part, by a worker that died. Of a job
    that waits for others (a caption server) a local worker does ``threads`` tasks at a time.
    """

    @property
    def threads(self) -> int: ...

    def setup(self) -> None: ...

    def do(self, task: Any) -> None: ...


@dataclass(frozen=True)
class Failure:
    """Why a task has no result. The same words on every engine."""

    reason: str
    detail: str


WORKER_DIED = Failure("worker_died", "the process that worked on it died, twice")

# A task's position, and its failure if it has one.
Outcome = tuple[int, Failure | None]


class Engine(Protocol):
    def run(self, job: Job, tasks: Sequence[Any]) -> Iterator[Outcome]:
        """Outcomes in the order in which tasks finish; each task has exactly one.

        Raises what the job's ``setup`` raises, and a `StopRunError` of a task.
        """


def attempt(job: Job, task: Any) -> Failure | None:
    """Do a task; what goes wrong with it stays with it, but for `StopRunError`."""
    try:
        job.do(task)
    except StopRunError:
        raise
    # One video of a million may find a bug of ours or of a library; the others must go on.
    except Exception as error:  # noqa: BLE001
        logger.error("%.200s failed:\n%s", task, traceback.format_exc())
        return Failure("worker_failed", f"{type(error).__name__}: {error}"[:500])
    return None


class LocalEngine:
    """``workers`` processes (0 and 1: this one). The results do not depend on their number.

    The processes live from the first job that needs them until `close`.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._crew: list[_Worker] = []

    def run(self, job: Job, tasks: Sequence[Any]) -> Iterator[Outcome]:
        if not tasks:
            return
        if self.workers <= 1:
            yield from self._here(job, tasks)
            return
        try:
            yield from self._share_out(job, tasks)
        except BaseException:  # nobody will collect what workers are at
            self.close()
            raise

    def close(self) -> None:
        while self._crew:
            self._crew.pop().dismiss()

    def _here(self, job: Job, tasks: Sequence[Any]) -> Iterator[Outcome]:
        with one_thread():
            job.setup()
            if job.threads == 1:
                for position, task in enumerate(tasks):
                    yield position, attempt(job, task)
                return
            with ThreadPoolExecutor(job.threads) as pool:
                places = {pool.submit(attempt, job, task): at for at, task in enumerate(tasks)}
                try:
                    for done in as_completed(places):
                        yield places[done], done.result()
                finally:
                    pool.shutdown(cancel_futures=True)

    def _share_out(self, job: Job, tasks: Sequence[Any]) -> Iterator[Outcome]:
        waiting, deaths = deque(range(len(tasks))), [0] * len(tasks)
        while len(self._crew) < min(self.workers, len(tasks)):
            self._crew.append(_Worker())
        while waiting or any(worker.under_way for worker in self._crew):
            for worker in self._crew:
                while waiting and worker.may_take(waiting[0], job.threads, deaths):
                    worker.give(job, position := waiting.popleft(), tasks[position])
            ready = wait([worker.pipe for worker in self._crew if worker.under_way])
            for place, worker in enumerate(self._crew):
                if worker.pipe not in ready:
                    continue
                for position, failure in worker.collect():
                    if failure is WORKER_DIED:
                        self._crew[place] = _Worker()
                        deaths[position] += 1
                        if deaths[position] < DEATHS:
                            waiting.appendleft(position)
                            continue
                    yield position, failure


class _Worker:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        with worker_environment():
            self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.under_way: set[int] = set()

    def may_take(self, position: int, threads: int, deaths: Sequence[int]) -> bool:
        """A task whose worker died is tried again alone, so it costs no other task a try."""
        is_suspect = deaths[position] > 0 or any(deaths[other] for other in self.under_way)
        return not self.under_way if is_suspect else len(self.under_way) < threads

    def give(self, job: Job, position: int, task: Any) -> None:
        self.under_way.add(position)
        with suppress(BrokenPipeError):  # it died at once: `collect` sees the end of the pipe
            self.pipe.send((None if job is self.job else job, position, task))
        self.job = job

    def collect(self) -> list[Outcome]:
        """One outcome, or of a dead worker all that it was at.

        Raises what the job's ``setup`` raised, and a `StopRunError`.
        """
        try:
            outcome = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return [(position, WORKER_DIED) for position in sorted(self.under_way, reverse=True)]
        if isinstance(outcome, Exception):
            raise outcome
        self.under_way.remove(outcome[0])
        return [outcome]

    def dismiss(self) -> None:
        self.pipe.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(pipe: Connection) -> None:
    """A worker's life: set up each new job once, then do its tasks until the pipe closes."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    job: Job | None = None
    pool: ThreadPoolExecutor | None = None
    lock = threading.Lock()
    while True:
        try:
            new, position, task = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        if new is not None:
            job = new
            try:
                job.setup()
            except Exception as error:  # noqa: BLE001  # raised again by the driver
                pipe.send(error)
                return
            pool = ThreadPoolExecutor(job.threads) if job.threads > 1 else None
        assert job is not None
        if pool is None:
            _answer(pipe, lock, job, position, task)
        else:
            pool.submit(_answer, pipe, lock, job, position, task)


def _answer(pipe: Connection, lock: threading.Lock, job: Job, position: int, task: Any) -> None:
    try:
        outcome: Outcome | StopRunError = position, attempt(job, task)
    except StopRunError as error:
        outcome = StopRunError(str(error))
    with lock, suppress(BrokenPipeError):  # the driver stopped at another's error
        pipe.send(outcome)


def _die_with_parent() -> None:
    """A worker that outlived a killed driver would write beside the next run's workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """As in a worker: the number of threads may change a sum's last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Threads that spin would fight for the cores; glibc would give the shot detector's large arrays
# back to the system after every use (measured: 14 % of its time goes into page faults).
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}


@contextmanager
def worker_environment() -> Iterator[None]:
    """Inherited by a process that starts inside."""
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
