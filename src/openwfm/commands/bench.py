"""``openwfm bench simulation | tokenizer | curation | diffusion | autoregressive | world``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from openwfm.benchmarks.table import print_table
from openwfm.config import build, compose
from openwfm.files import read_json, write_json
from openwfm.provenance import machine


def main(config: DictConfig) -> int:
    """Measure, print tables, write ``out``/KIND.json; returns 0."""
    kinds: dict[str, Callable[[DictConfig], dict[str, Any]]] = {
        "simulation": _simulation,
        **{kind: partial(_plain, kind) for kind in ("tokenizer", "diffusion")},
        "autoregressive": _autoregressive,
        "curation": _curation,
        "world": _world,
    }
    if config.kind not in kinds:
        raise ValueError(f"kind={config.kind}: must be one of {', '.join(kinds)}")
    result = kinds[config.kind](config)
    file = Path(config.out) / f"{config.kind}.json"
    write_json(file, {"machine": machine(), **result})
    print(file)
    return 0


def _plain(kind: str, config: DictConfig, *, node: str | None = None) -> dict[str, Any]:
    """``bench_KIND`` of ``openwfm.benchmarks.KIND``, on the config of ``node``."""
    module = import_module(f"openwfm.benchmarks.{kind}")
    settings: Any = build(config[node or kind])
    found = getattr(module, f"bench_{kind}")(settings)
    tables = {}
    for name, rows in found.items() if isinstance(found, dict) else found:
        tables[name] = rows
        print_table(module.TITLES[name], rows)
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
    from openwfm.benchmarks import autoregressive

    settings = build(config.autoregressive)
    assert isinstance(settings, autoregressive.AutoregressiveBenchConfig)
    file = Path(config.out) / "autoregressive.json"
    found = read_json(file) if settings.tables and file.is_file() else {"settings": {}}
    if found.pop("machine", machine()) != machine():
        raise ValueError(
            f"tables={settings.tables}: {file} was measured elsewhere; give another out"
        )
    for name, rows in autoregressive.bench_autoregressive(settings):
        found[name] = rows
        found["settings"][name] = {**asdict(settings), "tables": [name]}
        print_table(autoregressive.TITLES[name], rows)
    return found


def _world(config: DictConfig) -> dict[str, Any]:
    """Tables that are not measured now stay as the file has them."""
    file = Path(config.out) / "world.json"
    kept = read_json(file) if file.is_file() else {}
    found = _plain("world", config, node="world_session")
    settings = dict.fromkeys(found["settings"]["parts"], found["settings"])
    return {**kept, **found, "settings": {**kept.get("settings", {}), **settings}}


def _simulation(config: DictConfig) -> dict[str, Any]:
    from openwfm.benchmarks.simulation import SimulationBenchConfig, bench_simulation, print_rows

    settings = build(config.simulation)
    assert isinstance(settings, SimulationBenchConfig)
    size = [f"world.width={config.width}", f"world.height={config.height}"]
    worlds = {
        name: build(compose("simulate", [f"world={name}", "out=none", *size]).world)
        for name in config.worlds
    }
    rows = bench_simulation(settings, worlds)
    print_rows(rows, settings.workers)
    return {"settings": asdict(settings), "rows": rows}
