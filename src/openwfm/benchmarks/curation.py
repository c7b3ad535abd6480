"""``openwfm bench curation``: how fast raw video becomes shards, where the time goes, and memory.

Each run is a process of its own over the same filmed takes, into a fresh folder. Its start and the
loading of models are measured apart, by a run in which every worker loads and none has work.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from openwfm.curation.config import CurationConfig
from openwfm.curation.curate import curate_folder, open_engine
from openwfm.curation.pipeline import Pipeline
from openwfm.curation.stages import build_phases
from openwfm.simulation.config import FootageConfig
from openwfm.simulation.footage import film_footage
from openwfm.video import open_video, write_chunks

Result = TypeVar("Result")
PARTS = ("engines", "memory")
TITLES = {
    "engines": "raw takes to shards; medians, `start` of the seconds are no work",
    "stages": "seconds of one worker, by stage",
    "memory": "peak of one process, by length of one video",
}


@dataclass(frozen=True, kw_only=True)
class CurationBenchConfig:
    """``num_takes`` are filmed and curated ``repeats`` times by each engine, by turns; memory is
    compared between a video of ``minutes`` and one ``longer`` times as long, both of ``fps``.
    ``parts``: of `PARTS`, what is measured."""

    num_takes: int = 12
    repeats: int = 3
    workers: int = 2
    minutes: float = 0.5
    longer: int = 6
    fps: float = 24.0
    ray: bool = True
    seed: int = 0
    parts: tuple[str, ...] = PARTS

    def __post_init__(self) -> None:
        for name in ("num_takes", "repeats", "workers", "longer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("minutes", "fps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0")
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or set(self.parts) - set(PARTS):
            raise ValueError(f"parts={list(self.parts)}: must be some of {', '.join(PARTS)}")


def bench_curation(
    config: CurationBenchConfig, curation: CurationConfig
) -> dict[str, list[dict[str, Any]]]:
    """Tables ``engines``, ``stages`` and ``memory``; ``curation`` gives all but places, workers
    and engine. Raises ValueError when two runs over the same takes end in different manifests.
    """
    with tempfile.TemporaryDirectory(prefix="openwfm-bench-") as scratch:
        root = Path(scratch)
        film_footage(
            FootageConfig(out=str(root / "takes"), num_takes=config.num_takes, seed=config.seed)
        )
        raw = root / "takes" / "raw"
        one = replace(curation, source=str(raw), workers=1, engine="local")
        tables = _engine_tables(config, one, root) if "engines" in config.parts else {}
        if "memory" in config.parts:
            lengths = (config.minutes, config.minutes * config.longer)
            tables["memory"] = [_memory(one, root, minutes, config.fps) for minutes in lengths]
        return tables


def _engine_tables(
    config: CurationBenchConfig, one: CurationConfig, root: Path
) -> dict[str, list[dict[str, Any]]]:
    several = replace(one, workers=config.workers)
    modes = {"local, 1 worker": one, f"local, {config.workers} workers": several}
    if config.ray:
        modes[f"ray, {config.workers} workers"] = replace(several, engine="ray")
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in modes}
    for number in range(config.repeats):
        for place, (name, mode) in enumerate(modes.items()):
            fresh = replace(mode, out=str(root / f"out{number}-{place}"))
            start = _alone(measure_start, fresh)
            runs[name].append({**_alone(measure, fresh), "start": start})
    manifests = {run["manifest"] for of in runs.values() for run in of}
    if len(manifests) > 1:
        raise ValueError(f"engines: {len(manifests)} different manifests of the same takes")
    return {"engines": _engines(runs), "stages": _stages(runs["local, 1 worker"])}


def _alone(what: Callable[[CurationConfig], Result], curation: CurationConfig) -> Result:
    """In a fresh process, so that peak memory is its own (its workers' is not counted)."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(what, curation).result()


@dataclass
class Load:
    """A job whose set-up loads what a phase needs, and that does nothing."""

    config: CurationConfig
    phase: str
    threads: int = 1
    seconds: float = 0.1  # so that no worker can take another's task before that is set up

    def setup(self) -> None:
        Pipeline(getattr(build_phases(self.config), self.phase)).setup()

    def do(self, task: int) -> None:
        time.sleep(self.seconds)


def measure_start(curation: CurationConfig) -> float:
    """Seconds of a run without work: start the engine, load the models of both phases."""
    started = time.perf_counter()
    tasks = range(max(1, curation.workers))
    pauses = 0.0
    with open_engine(curation) as engine:
        for phase in ("measure", "caption"):
            job = Load(curation, phase)
            failed = [failure for _, failure in engine.run(job, tasks) if failure is not None]
            if failed:
                raise RuntimeError(f"{curation.engine}: {failed[0].reason}: {failed[0].detail}")
            pauses += job.seconds
    return time.perf_counter() - started - pauses


def measure(curation: CurationConfig) -> dict[str, Any]:
    """Curate in this process."""
    started = time.perf_counter()
    report = curate_folder(curation)
    seconds = time.perf_counter() - started
    busy = {name: account.seconds for name, account in report.stages.items()}
    return {
        "seconds": seconds,
        "clips": report.num_clips_kept,
        "frames": report.source_frames,
        "video_seconds": report.source_seconds,
        "stages": busy,
        "manifest": report.manifest_sha256,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _engines(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Ratios are medians over rounds, in each of which all engines ran once."""
    one, *others = runs
    table = []
    for name, of in runs.items():
        middle = statistics.median(run["seconds"] for run in of)
        table.append(
            {
                "engine": name,
                "seconds": middle,
                "start": statistics.median(run["start"] for run in of),
                "clips_per_second": of[0]["clips"] / middle,
                "frames_per_second": of[0]["frames"] / middle,
                "real_time_factor": of[0]["video_seconds"] / middle,
                "against_1_worker": _ratio(runs[one], of),
                "against_local": _ratio(runs[others[0]], of),
                "against_local_with_start": statistics.median(
                    a["seconds"] / b["seconds"] for a, b in zip(runs[others[0]], of, strict=True)
                ),
            }
        )
    return table


def _ratio(base: list[dict[str, Any]], runs: list[dict[str, Any]]) -> float:
    """Of the seconds of work, without the start."""
    return statistics.median(
        _work(one) / _work(other) for one, other in zip(base, runs, strict=True)
    )


def _work(run: dict[str, Any]) -> float:
    return float(run["seconds"] - run["start"])


def _stages(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = list(runs[0]["stages"])
    middle = {n: statistics.median(run["stages"][n] for run in runs) for n in names}
    total = sum(middle.values())
    return [
        {"stage": name, "seconds": middle[name], "share": middle[name] / total} for name in names
    ]


def _memory(curation: CurationConfig, root: Path, minutes: float, fps: float) -> dict[str, Any]:
    """Peak of one process that curates one long video, the takes one after the other."""
    folder = root / f"long-{minutes:g}"
    frames = write_long(Path(curation.source), folder / "long.mp4", minutes, fps)
    run = _alone(measure, replace(curation, source=str(folder), out=str(root / f"out-{minutes:g}")))
    return {
        "minutes": minutes,
        "frames": frames,
        "clips": run["clips"],
        "seconds": run["seconds"],
        "peak_mib": run["peak_mib"],
    }


def write_long(raw: Path, out: Path, minutes: float, fps: float) -> int:
    """One video of ``minutes``, of the frames of all videos in ``raw``, over and over."""
    total = round(minutes * 60 * fps)
    write_chunks(out, islice(_endless(sorted(raw.glob("*.mp4"))), total), fps)
    return total


def _endless(files: list[Path]) -> Iterator[Tensor]:
    for number in count():
        with open_video(files[number % len(files)]) as (frames, _):
            for frame in frames:
                image = np.ascontiguousarray(frame)
                image[:4, :4] = number % 251  # no shot repeats one of another round
                yield torch.from_numpy(image)[None]
