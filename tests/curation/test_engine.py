"""Engines: every task has one outcome, and what goes wrong with one stays with it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from curation_runs import good, reasons, run, tree
from curation_videos import scene, write_video

from openwfm.curation.engine import LocalEngine
from openwfm.curation.record import StopRunError


@dataclass
class Errands:
    """Tasks say what happens; every try leaves a line."""

    log: Path
    broken: bool = False
    threads: int = 1

    def setup(self) -> None:
        if self.broken:
            raise ImportError("model.safetensors is not installed")

    def do(self, task: str) -> None:
        with open(self.log, "a") as file:
            file.write(f"{task}\n")
        tries = self.log.read_text().split().count(task)
        if task.startswith("always") or (task.startswith("once") and tries == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if task.startswith("stop"):
            raise StopRunError("401: the key is not accepted")
        if task.startswith("bug"):
            raise KeyError(task)
        if task.startswith("wait"):
            time.sleep(0.2)


@pytest.fixture(autouse=True)
def _importable_in_workers(monkeypatch) -> None:
    """Pytest's importlib mode gives this module a name that a worker could not import."""
    monkeypatch.setitem(sys.modules, "test_engine", sys.modules[__name__])
    monkeypatch.setattr(Errands, "__module__", "test_engine")


TASKS = ["a", "once", "bug", "b", "always", "c", "d"]


def test_here_threads_wait_together(tmp_path, caplog) -> None:
    tasks = [*(f"wait{number}" for number in range(12)), "bug"]
    begun = time.perf_counter()
    outcomes = dict(LocalEngine(0).run(Errands(tmp_path / "log", threads=12), tasks))
    assert time.perf_counter() - begun < 12 * 0.2
    assert sorted(outcomes) == list(range(13))
    assert [at for at, failure in outcomes.items() if failure] == [12]
    with pytest.raises(StopRunError, match="not accepted"):
        list(LocalEngine(0).run(Errands(tmp_path / "log", threads=3), ["a", "stop", *tasks]))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_a_dead_worker_costs_its_task_only_and_only_the_second_time(
    tmp_path, caplog, threads
) -> None:
    log = tmp_path / "log"
    with closing(LocalEngine(2)) as engine:
        outcomes = dict(engine.run(Errands(log, threads=threads), TASKS))
        assert dict(engine.run(Errands(log), ["e", "f"])) == {0: None, 1: None}
    assert sorted(outcomes) == list(range(len(TASKS)))
    failed = {TASKS[at]: failure.reason for at, failure in outcomes.items() if failure}
    assert failed == {"bug": "worker_failed", "always": "worker_died"}
    counts = Counter(log.read_text().split())
    assert counts["once"] == counts["always"] == 2
    innocent = {task: count for task, count in counts.items() if task not in ("once", "always")}
    assert set(innocent) == {"a", "b", "c", "d", "e", "f", "bug"}
    assert threads > 1 or set(innocent.values()) == {1}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_job_that_cannot_be_set_up_stops_the_run(tmp_path, workers) -> None:
    with closing(LocalEngine(workers)) as engine:
        with pytest.raises(ImportError, match=r"model\.safetensors is not installed"):
            list(engine.run(Errands(tmp_path / "log", broken=True), TASKS))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_what_every_task_would_meet_stops_the_run(tmp_path, workers) -> None:
    log, tasks = tmp_path / "log", ["a", "stop", *(f"wait{n}" for n in range(60))]
    with closing(LocalEngine(workers)) as engine:
        with pytest.raises(StopRunError, match="the key is not accepted"):
            list(engine.run(Errands(log), tasks))
    assert len(log.read_text().split()) < len(tasks)


def test_here_a_bug_stays_with_its_task(tmp_path, caplog) -> None:
    outcomes = dict(LocalEngine(0).run(Errands(tmp_path / "log"), ["a", "bug", "b"]))
    assert outcomes[0] is None and outcomes[2] is None
    assert outcomes[1] is not None and outcomes[1].detail == "KeyError: 'bug'"
    assert list(LocalEngine(0).run(Errands(tmp_path / "x", broken=True), [])) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ray_gives_the_bytes_that_processes_give(tmp_path, monkeypatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *sys.path]))  # of its workers
    pytest.importorskip("ray")
    raw = tmp_path / "raw"
    good(raw, 3)
    (raw / "bad.mp4").write_bytes(b"x" * 100)
    write_video(raw / "deadly.mp4", scene(40, seed=50))
    reports = {
        engine: run(raw, tmp_path / engine, workers=2, engine=engine) for engine in ("ray", "local")
    }
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert reasons(tmp_path / "ray")["deadly.mp4"] == "ingest/worker_died"
    counts = [
        [(n, a.received, a.created, a.passed, a.reasons) for n, a in report.stages.items()]
        for report in reports.values()
    ]
    assert counts[0] == counts[1]
