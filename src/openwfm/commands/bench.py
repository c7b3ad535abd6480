"""``openwfm bench simulation``: speed and memory, as a table and as JSON."""

from __future__ import annotations

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
    _print(rows, "rendered frames (every view counts) a second on one core, all costs included")
    file = Path(config.out) / f"{config.kind}.json"
    write_json(file, {"machine": machine(), "rows": rows})
    print(file)
    return 0


def _print(rows: list[dict[str, Any]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    Console().print(table)


def _cell(name: str, value: Any) -> str:
    if name.startswith("share_"):
        return f"{100 * value:.0f} %"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
