"""``openwfm bench simulation``: how fast worlds film, on what the time goes, how memory grows."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from openwfm.benchmarks.clock import Clock
from openwfm.data.shards import ShardIndex
from openwfm.extras import require
from openwfm.simulation import film
from openwfm.simulation.config import SimulationConfig
from openwfm.simulation.render import Renderer, choose_backend
from openwfm.simulation.worlds import WorldConfig

LABELS = ("physics", "rendering", "truth", "encoding", "other")


@dataclass(frozen=True, kw_only=True)
class SimulationBenchConfig:
    """``num_clips`` are filmed in each measurement, ``repeats`` times; medians are reported."""

    num_clips: int = 12
    repeats: int = 3
    workers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_clips", "repeats", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")


def bench_simulation(
    config: SimulationBenchConfig, worlds: Mapping[str, WorldConfig]
) -> list[dict[str, Any]]:
    """One row a world. Each measurement is a process of its own, with everything included that
    filming into shards costs but the start of the process and the text encoder."""
    rows = []
    for name, world in worlds.items():
        alone = [_alone(world, config.num_clips, config.seed) for _ in range(config.repeats)]
        longer = _alone(world, 4 * config.num_clips, config.seed)
        ratios = [
            _together(world, config, 1) / _together(world, config, config.workers)
            for _ in range(config.repeats)
        ]
        middle = sorted(alone, key=lambda run: run["frames_per_second"])[len(alone) // 2]
        rows.append(
            {
                "world": name,
                "frames_per_second": middle["frames_per_second"],
                "frame": middle["frame"],
                "views": middle["views"],
                "rejected": middle["rejected"],
                **{f"share_{label}": middle["shares"].get(label, 0.0) for label in LABELS},
                "peak_mib": middle["peak_mib"],
                "peak_mib_4x": longer["peak_mib"],
                "speedup": statistics.median(ratios),
            }
        )
    return rows


def _alone(world: WorldConfig, num_clips: int, seed: int) -> dict[str, Any]:
    """Measured in a fresh process, so that its peak memory is its own."""
    with film.one_thread_each(), _process() as pool:
        return pool.submit(measure, world, num_clips, seed).result()


def measure(world: WorldConfig, num_clips: int, seed: int) -> dict[str, Any]:
    """Film in this process; rendered frames count once for every view."""
    backend, clock = choose_backend(), Clock()
    film.open_world(world, seed, backend)
    mujoco = require("mujoco", extra="simulation")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for owner, function, label in (
            (mujoco, "mj_step", "physics"),
            (mujoco, "mj_forward", "physics"),
            (Renderer, "render", "rendering"),
            (Renderer, "render_truth", "truth"),
            (Renderer, "upload_textures", "rendering"),
            (Renderer, "upload_meshes", "rendering"),
            (film, "encode", "encoding"),
        ):
            stack.enter_context(clock.watch(owner, function, label))
        started = time.perf_counter()
        summary = film.film_world(_simulation(folder, num_clips, seed, 1), world)
        seconds = time.perf_counter() - started
        index = ShardIndex.open(folder)
        clips = [index.metadata(key) for key in index.keys]
    if not clips:
        raise ValueError(f"num_clips={num_clips}: every clip of {world.name} was rejected")
    return {
        "frames_per_second": sum(c["num_frames"] * len(c["views"]) for c in clips) / seconds,
        "frame": f"{clips[0]['width']}x{clips[0]['height']}",
        "views": len(clips[0]["views"]),
        "rejected": summary.rejected,
        "shares": clock.shares(seconds),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _simulation(folder: str, num_clips: int, seed: int, workers: int) -> SimulationConfig:
    return SimulationConfig(
        out=folder, num_clips=num_clips, seed=seed, workers=workers, text_encoder=None
    )


def _together(world: WorldConfig, config: SimulationBenchConfig, workers: int) -> float:
    """Seconds a clip with ``workers`` processes; their start is left out by taking the difference
    between filming few and many clips."""
    few, many = 2 * workers, 2 * workers + 2 * config.num_clips
    times = []
    for num_clips in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            simulation = _simulation(folder, num_clips, config.seed, workers)
            if workers > 1:
                film.film_world(simulation, world)
            else:
                # Also in a process of its own, so that both sides pay the same.
                with film.one_thread_each(), _process() as pool:
                    pool.submit(film.film_world, simulation, world).result()
            times.append(time.perf_counter() - started)
    return (times[1] - times[0]) / (many - few)


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def print_rows(rows: list[dict[str, Any]], workers: int) -> None:
    """On the screen: shares as percentages, memory of one and of four times as many clips."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="filming on one core; every view counts as a frame, all costs included")
    for name in ("world", "frame", "frames/s", *LABELS, "MiB, 4x clips", f"{workers} workers"):
        table.add_column(name, justify="right")
    for row in rows:
        views = f" x{row['views']}" if row["views"] > 1 else ""
        table.add_row(
            row["world"],
            row["frame"] + views,
            f"{row['frames_per_second']:.0f}",
            *(f"{100 * row[f'share_{label}']:.0f}%" for label in LABELS),
            f"{row['peak_mib']:.0f} {row['peak_mib_4x']:.0f}",
            f"{row['speedup']:.2f}x",
        )
    Console(width=110).print(table)
