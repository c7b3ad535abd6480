"""``openwfm bench simulation``: speed and memory, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from openwfm.config import build, compose
from openwfm.files import write_json
from openwfm.provenance import machine


def main(config: DictConfig) -> int:
    """Measure, print a table, write ``out``/KIND.json; returns 0."""
    if config.kind != "simulation":
        raise ValueError(f"kind={config.kind}: must be simulation")
    from openwfm.benchmarks.simulation import SimulationBenchConfig, bench_simulation

    settings = build(config.simulation)
    assert isinstance(settings, SimulationBenchConfig)
    size = [f"world.width={config.width}", f"world.height={config.height}"]
    worlds = {
        name: build(compose("simulate", [f"world={name}", "out=none", *size]).world)
        for name in config.worlds
    }
    rows = bench_simulation(settings, worlds)
    file = Path(config.out) / f"{config.kind}.json"
    write_json(file, {"machine": machine(), "settings": asdict(settings), "rows": rows})
    _print(rows, settings.workers)
    print(file)
    return 0


def _print(rows: list[dict[str, Any]], workers: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from openwfm.benchmarks.simulation import LABELS

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
