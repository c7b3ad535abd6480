"""What a report shows, read from the folder of a world. Absent parts are None or empty."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openwfm.data.shards import INDEX, ShardIndex
from openwfm.files import read_json
from openwfm.page import ShownClip
from openwfm.weights import CONFIG

Curves = dict[str, tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """A training: what it started from, how its metrics went, and what it scored.

    ``start`` is the folder of weights, or None when it began from nothing. ``session`` is the
    first entry of provenance.json.
    """

    start: str | None
    num_steps: int | None
    session: Mapping[str, Any]
    curves: Curves
    evaluation: Mapping[str, Any] | None
    examples: Sequence[ShownClip] = ()


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """``stages`` are names and seconds; ``curation`` is curate's report.json."""

    title: str
    stages: Sequence[tuple[str, float]] = ()
    curation: Mapping[str, Any] | None = None
    clips: Sequence[ShownClip] = ()
    tokenizer: RunInputs | None = None
    world: RunInputs | None = None
    missing: Sequence[str] = field(default_factory=tuple)


def read_inputs(world: Path, num_clips: int) -> ReportInputs:
    """Read ``shards/``, ``tokenizer/``, ``world_model/`` and ``stages.json`` of a folder.

    What is absent is named in ``missing``. Raises ValueError when there is nothing, or a file that
    is there cannot be read.
    """
    found = {
        "stages.json": world / "stages.json",
        "shards/report.json": world / "shards" / "report.json",
        f"shards/{INDEX}": world / "shards" / INDEX,
        "tokenizer/": world / "tokenizer" / "provenance.json",
        "world_model/": world / "world_model" / "provenance.json",
    }
    present = {name for name, path in found.items() if path.is_file()}
    if not present:
        raise ValueError(f"{world}: holds none of {', '.join(found)}; is it a folder of a world?")
    stages = read_json(found["stages.json"]) if "stages.json" in present else []
    runs = {
        name: read_run(world / name) if f"{name}/" in present else None
        for name in ("tokenizer", "world_model")
    }
    unmeasured = [
        f"{name}/evaluation/evaluation.json"
        for name, run in runs.items()
        if run is not None and run.evaluation is None
    ]
    return ReportInputs(
        title=world.resolve().name,
        stages=[(str(stage["name"]), float(stage["seconds"])) for stage in stages],
        curation=(
            read_json(found["shards/report.json"]) if "shards/report.json" in present else None
        ),
        clips=_curated(world / "shards", num_clips) if f"shards/{INDEX}" in present else [],
        tokenizer=runs["tokenizer"],
        world=runs["world_model"],
        missing=[*(name for name in found if name not in present), *unmeasured],
    )


def _curated(shards: Path, count: int) -> list[ShownClip]:
    """Clips spread evenly over the set, each from another source as far as there are sources."""
    index = ShardIndex.open(shards)
    by_source: dict[str, list[str]] = {}
    for key, source in index.sources.items():
        by_source.setdefault(source, []).append(key)
    ranked = [keys[i] for i in range(len(index)) for keys in by_source.values() if i < len(keys)]
    first = ranked[: max(count, len(by_source))]
    picks = [first[i] for i in np.linspace(0, len(first) - 1, min(count, len(first))).astype(int)]
    shown = []
    for key in picks:
        facts = index.metadata(key)
        tags = facts.get("tags") or []
        note = f"{facts.get('kind', '')}; {', '.join(map(str, tags))}".strip("; ")
        caption = str(facts.get("caption") or "no caption")
        shown.append(ShownClip(caption=caption, mp4=index.read(key, "mp4"), note=note))
    index.close()
    return shown


def read_run(run: Path) -> RunInputs:
    """Read a run folder. Raises ValueError naming a file that cannot be read."""
    sessions = read_json(run / "provenance.json").get("sessions") or [{}]
    curves = read_curves(run / "metrics")
    file = run / "evaluation" / "evaluation.json"
    evaluation = read_json(file) if file.is_file() else None
    weights = run / "weights" / CONFIG
    return RunInputs(
        start=sessions[0].get("start_weights"),
        num_steps=read_json(weights).get("step") if weights.is_file() else None,
        session=sessions[0],
        curves=curves,
        evaluation=evaluation,
        examples=[
            ShownClip(
                caption=str(example["caption"] or example["clip"]),
                mp4=(file.parent / example["video"]).read_bytes(),
                picture=(file.parent / example["picture"]).read_bytes(),
            )
            for example in (evaluation or {}).get("examples", [])
        ],
    )


def read_curves(folder: Path) -> Curves:
    """Metrics by name from Lightning's CSV logger: metrics.csv, and parts of interrupted runs.

    Where a resumed run repeats a step, the later value counts.
    """
    points: dict[str, dict[int, float]] = {}
    parts = sorted(folder.glob("metrics.*.csv")) + [folder / "metrics.csv"]
    for file in parts:
        if not file.is_file():
            continue
        with open(file, newline="") as lines:
            for row in csv.DictReader(lines):
                _take(row, points, file)
    return {name: (sorted(of), [of[step] for step in sorted(of)]) for name, of in points.items()}


def _take(row: Mapping[str, str | None], points: dict[str, dict[int, float]], file: Path) -> None:
    try:
        step = int(float(row.get("step") or "nan"))
        values = {n: float(v) for n, v in row.items() if n not in ("step", "epoch") and v}
    except ValueError as error:
        raise ValueError(f"{file}: not a table of metrics ({error})") from error
    for name, value in values.items():
        if math.isfinite(value):
            points.setdefault(name, {})[step] = value
