"""Local engine: worker processes, one source a task; a worker that dies costs its source only."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from openwfm.curation.config import CurationConfig
from openwfm.curation.pipeline import Pipeline, Stage
from openwfm.curation.record import Rejection, Source
from openwfm.curation.stages import build_stages
from openwfm.curation.work import WorkFolder

MakeStages = Callable[[CurationConfig], tuple[Stage, ...]]


@dataclass(frozen=True)
class Outcome:
    """``rejection`` is None when the work folder holds the source's result."""

    source: Source
    rejection: Rejection | None = None


class LocalEngine:
    """Runs the pipeline over sources. The result does not depend on ``workers``.

    ``make_stages`` is called once in every worker, so it must be importable there.
    """

    def __init__(
        self, config: CurationConfig, work: WorkFolder, make_stages: MakeStages = build_stages
    ) -> None:
        self.config, self.work, self.make_stages = config, work, make_stages

    def run(self, sources: Sequence[Source]) -> Iterator[Outcome]:
        """Outcomes in the order in which sources finish."""
        if self.config.workers <= 1:
            yield from self._run_here(sources)
        else:
            yield from self._run_workers(sources)

    def _run_here(self, sources: Sequence[Source]) -> Iterator[Outcome]:
        with _one_thread():
            pipeline = _pipeline(self.config, self.make_stages) if sources else None
            for source in sources:
                assert pipeline is not None
                _curate(pipeline, self.work, source)
                yield Outcome(source)

    def _run_workers(self, sources: Sequence[Source]) -> Iterator[Outcome]:
        waiting = deque(sources)
        crew = [self._hire() for _ in range(min(self.config.workers, len(sources)))]
        try:
            for worker in crew:
                worker.give(waiting.popleft())
            while any(worker.task is not None for worker in crew):
                ready = wait([worker.pipe for worker in crew if worker.task is not None])
                for position, worker in enumerate(crew):
                    if worker.pipe not in ready:
                        continue
                    outcome = worker.collect()
                    if outcome.rejection is not None and waiting:
                        crew[position] = worker = self._hire()
                    if waiting:
                        worker.give(waiting.popleft())
                    yield outcome
        finally:
            for worker in crew:
                worker.dismiss()

    def _hire(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self.config, self.work, self.make_stages), daemon=True
        )
        with _worker_environment():
            process.start()
        theirs.close()
        return _Worker(process, ours)


class _Worker:
    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.task: Source | None = None

    def give(self, source: Source) -> None:
        self.task = source
        with suppress(BrokenPipeError):  # it died at once: `collect` sees the end of the pipe
            self.pipe.send(source)

    def collect(self) -> Outcome:
        source = self.task
        assert source is not None
        self.task = None
        try:
            self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            detail = f"exit code {self.process.exitcode}"
            return Outcome(source, Rejection(stage="engine", reason="worker_died", detail=detail))
        return Outcome(source)

    def dismiss(self) -> None:
        self.pipe.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(
    pipe: Connection, config: CurationConfig, work: WorkFolder, make_stages: MakeStages
) -> None:
    """A worker's life: set up once, then a source at a time until the pipe closes."""
    torch.set_num_threads(1)
    pipeline = None
    while True:
        try:
            source = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        pipeline = pipeline or _pipeline(config, make_stages)
        _curate(pipeline, work, source)
        pipe.send(source.id)


def _pipeline(config: CurationConfig, make_stages: MakeStages) -> Pipeline:
    pipeline = Pipeline(make_stages(config))
    pipeline.setup()
    return pipeline


def _curate(pipeline: Pipeline, work: WorkFolder, source: Source) -> None:
    accounts = pipeline.accounts()
    work.write(source, pipeline.run(source, accounts), accounts)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker: the number of threads may change a sum's last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Inherited by a process that starts inside.

    Threads that spin would fight for the cores; glibc would give the shot detector's large arrays
    back to the system after every use (measured: 14 % of its time goes into page faults).
    """
    wanted = {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
