"""``openwfm bench simulation | tokenizer | curation | diffusion | autoregressive``."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from openwfm.benchmarks.table import measured, print_table
from openwfm.config import build, compose
from openwfm.files import write_json
from openwfm.provenance import machine


def main(config: DictConfig) -> int:
    """Measure, print tables, write ``out``/KIND.json; returns 0."""
    kinds = {
        "simulation": _simulation,
        "tokenizer": _tokenizer,
        "curation": _curation,
        "diffusion": _diffusion,
        "autoregressive": _autoregressive,
    }
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
    file = Path(config.out) / "tokenizer.json"
    return measured(file, settings, bench_tokenizer(settings), TITLES)


def _diffusion(config: DictConfig) -> dict[str, Any]:
    from openwfm.benchmarks.diffusion import TITLES, DiffusionBenchConfig, bench_diffusion

    settings = build(config.diffusion)
    assert isinstance(settings, DiffusionBenchConfig)
    return _shown(asdict(settings), bench_diffusion(settings), TITLES)


def _curation(config: DictConfig) -> dict[str, Any]:
    from openwfm.benchmarks.curation import TITLES, CurationBenchConfig, bench_curation

    settings = build(config.curation)
    assert isinstance(settings, CurationBenchConfig)
    with tempfile.TemporaryDirectory() as raw, tempfile.TemporaryDirectory() as out:
        template = build(compose("curate", [f"in={raw}", f"out={out}"]).curation)
    return _shown(asdict(settings), bench_curation(settings, template), TITLES)


def _shown(
    settings: dict[str, Any], tables: dict[str, list[dict[str, Any]]], titles: dict[str, str]
) -> dict[str, Any]:
    for name, rows in tables.items():
        print_table(titles[name], rows)
    return {"settings": settings, **tables}


def _autoregressive(config: DictConfig) -> dict[str, Any]:
    from openwfm.benchmarks import autoregressive

    settings = build(config.autoregressive)
    assert isinstance(settings, autoregressive.AutoregressiveBenchConfig)
    file, tables = Path(config.out) / "autoregressive.json", autoregressive.TITLES
    return measured(file, settings, autoregressive.bench_autoregressive(settings), tables)


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
