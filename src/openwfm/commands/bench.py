"""``openwfm bench simulation | tokenizer | curation | diffusion | autoregressive | world``."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from openwfm.benchmarks.table import measured
from openwfm.config import build, compose
from openwfm.files import write_json
from openwfm.provenance import machine

KINDS = ("simulation", "tokenizer", "curation", "diffusion", "autoregressive", "world")


def main(config: DictConfig) -> int:
    """Measure, print tables, write ``out``/KIND.json; returns 0."""
    kind = config.kind
    if kind not in KINDS:
        raise ValueError(f"kind={kind}: must be one of {', '.join(KINDS)}")
    file = Path(config.out) / f"{kind}.json"
    result = _simulation(config) if kind == "simulation" else _tables(kind, config, file)
    write_json(file, {"machine": machine(), **result})
    print(file)
    return 0


def _tables(kind: str, config: DictConfig, file: Path) -> dict[str, Any]:
    """``bench_KIND`` of ``openwfm.benchmarks.KIND``, on its node of the config."""
    module = import_module(f"openwfm.benchmarks.{kind}")
    settings: Any = build(config["world_session" if kind == "world" else kind])
    more = [_template()] if kind == "curation" else []
    found = getattr(module, f"bench_{kind}")(settings, *more)
    tables = found.items() if isinstance(found, dict) else found
    return measured(file, settings, tables, module.TITLES)


def _template() -> Any:
    """A curation config whose folders are filled in later."""
    with tempfile.TemporaryDirectory() as raw, tempfile.TemporaryDirectory() as out:
        return build(compose("curate", [f"in={raw}", f"out={out}"]).curation)


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
