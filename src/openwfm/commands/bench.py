"""``openwfm bench simulation | tokenizer | curation | autoregressive``: as tables and as JSON."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from openwfm.benchmarks.table import print_table
from openwfm.config import build, compose
from openwfm.files import write_json
from openwfm.provenance import machine


def main(config: DictConfig) -> int:
    """Measure, print tables, write ``out``/KIND.json; returns 0."""
    kinds = {"simulation": _simulation, "tokenizer": _tokenizer, "curation": _curation}
    kinds["autoregressive"] = _autoregressive
    if config.kind not in kinds:
        raise ValueError(f"kind={config.kind}: must be one of {', '.join(kinds)}")
    result = kinds[config.kind](config)
    file = Path(config.out) / f"{config.kind}.json"
    write_json(file, {"machine": machine(), **result})
    print(file)
    return 0


def _tokenizer(config: DictConfig) -> dict[str, Any]:
    from openwfm.benchmarks.tokenizer import TITLES, TokenizerBenchConfig, bench_tokenizer

    settings = build(config.tokenizer)
    assert isinstance(settings, TokenizerBenchConfig)
    tables = bench_tokenizer(settings)
    for name, rows in tables.items():
        print_table(TITLES[name], rows)
    return {"settings": asdict(settings), **tables}


def _curation(config: DictConfig) -> dict[str, Any]:
    from openwfm.benchmarks.curation import TITLES, CurationBenchConfig, bench_curation

    settings = build(config.curation)
    assert isinstance(settings, CurationBenchConfig)
    with tempfile.TemporaryDirectory() as raw, tempfile.TemporaryDirectory() as out:
        template = build(compose("curate", [f"in={raw}", f"out={out}"]).curation)
    tables = bench_curation(settings, template)
    for name, rows in tables.items():
        print_table(TITLES[name], rows)
    return {"settings": asdict(settings), **tables}


def _autoregressive(config: DictConfig) -> dict[str, Any]:
    from openwfm.benchmarks.autoregressive import (
        TITLES,
        AutoregressiveBenchConfig,
        bench_autoregressive,
    )

    settings = build(config.autoregressive)
    assert isinstance(settings, AutoregressiveBenchConfig)
    tables = bench_autoregressive(settings)
    for name, rows in tables.items():
        print_table(TITLES[name], rows)
    return {"settings": asdict(settings), **tables}


def _simulation(config: DictConfig) -> dict[str, Any]:
    from openwfm.benchmarks.simulation import SimulationBenchConfig, bench_simulation

    settings = build(config.simulation)
    assert isinstance(settings, SimulationBenchConfig)
    size = [f"world.width={config.width}", f"world.height={config.height}"]
    worlds = {
        name: build(compose("simulate", [f"world={name}", "out=none", *size]).world)
        for name in config.worlds
    }
    rows = bench_simulation(settings, worlds)
    _print(rows, settings.workers)
    return {"settings": asdict(settings), "rows": rows}


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
