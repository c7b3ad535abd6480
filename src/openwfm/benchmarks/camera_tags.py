"""``python -m openwfm.benchmarks.camera_tags``: are the camera tags of curation true?

Shots with known camera paths go through the real stages (mp4, probe, transcode, motion). Prints
accuracy with its interval and the confusion matrix; writes ``camera_tags.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from openwfm.benchmarks.camera_shots import (
    CLASSES,
    PHYSICS,
    ROOMS,
    Shot,
    warped_shots,
    world_shots,
)
from openwfm.curation.motion import SOURCES, MeasureMotion
from openwfm.curation.probe import Probe
from openwfm.curation.record import Clip, Source
from openwfm.curation.transcode import Transcode
from openwfm.evaluation.metrics.bootstrap import Interval, bootstrap_interval
from openwfm.files import atomic_path, write_json
from openwfm.provenance import machine
from openwfm.video import write_video

CLIP_SIZE, CLIP_CRF, KEYFRAME_INTERVAL = 192, 18, 24
NONE = "no tag"
COLUMNS = (*CLASSES, NONE)


def clip_of(shot: Shot) -> Clip:
    """The shot as the measuring stages see it: encoded, probed and transcoded."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shot.mp4"
        write_video(file, torch.from_numpy(shot.frames), shot.fps)
        raw = Source(id="shot", path=file.name, num_bytes=file.stat().st_size, file=file)
        source = Probe().process(raw)[0]
        assert isinstance(source, Source)
        frames = len(shot.frames)
        clip = Clip(
            source="shot", path=file.name, origin=source, start_frame=0, end_frame=frames,
            start_seconds=0.0, end_seconds=frames / shot.fps,
        )  # fmt: skip
        transcode = Transcode(
            size=CLIP_SIZE, fps=shot.fps, crf=CLIP_CRF, keyframe_interval=KEYFRAME_INTERVAL,
            max_seconds=60.0,
        )  # fmt: skip
        made = transcode.process(clip)[0]
    assert isinstance(made, Clip)
    return made


def measure_shots(shots: Iterable[Shot]) -> Iterator[dict[str, Any]]:
    """One row a shot: its truth, and per source of motion the tags, scores and CPU seconds."""
    stages = [MeasureMotion(source) for source in SOURCES]
    for stage in stages:
        stage.setup()
    for shot in shots:
        clip = clip_of(shot)
        row: dict[str, Any] = {"origin": shot.origin, "label": shot.label}
        row["objects"] = None if np.isnan(shot.objects) else round(shot.objects, 4)
        for stage in stages:
            begun = time.process_time()
            found = stage.process(clip)[0]
            seconds = time.process_time() - begun
            assert isinstance(found, Clip)
            scores = {name: round(value, 4) for name, value in found.scores.items()}
            row[stage.source] = {"tags": list(found.tags), "seconds": round(seconds, 5), **scores}
        yield row


def first_tag(row: dict[str, Any], source: str) -> str:
    return row[source]["tags"][0] if row[source]["tags"] else NONE


def accuracy(rows: Sequence[dict[str, Any]], source: str) -> Interval:
    """Share of shots whose first tag is the label."""
    return bootstrap_interval([float(first_tag(row, source) == row["label"]) for row in rows])


def confusion(rows: Sequence[dict[str, Any]], source: str) -> np.ndarray:
    """Counts, label by first tag: ``10 11``, the last column for shots without a tag."""
    counts = np.zeros((len(CLASSES), len(COLUMNS)), int)
    for row in rows:
        counts[CLASSES.index(row["label"]), COLUMNS.index(first_tag(row, source))] += 1
    return counts


def separation(low: Sequence[float], high: Sequence[float]) -> float:
    """Chance that a value of ``high`` is above one of ``low`` (the area under the ROC curve);
    NaN when one is empty."""
    if not low or not high:
        return float("nan")
    above = np.asarray(high)[:, None] - np.asarray(low)[None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything that is reported of the rows, per source of motion."""
    summary: dict[str, Any] = {"num_shots": len(rows)}
    for source in SOURCES:
        kinds = {
            kind: [row[source]["parallax"] for row in rows if row["origin"] == f"rooms/{kind}"]
            for kind in ("pan", "truck", "dolly")
        }
        zooms = [
            r[source]["parallax"] for r in rows if _warped(r) and r["label"].startswith("zoom")
        ]
        known = [r for r in rows if r["objects"] is not None and r["label"] != "erratic"]
        errors = [abs(row[source]["object_motion"] - row["objects"]) for row in known]
        scored = accuracy(rows, source)
        summary[source] = {
            "accuracy": round(scored.mean, 4),
            "interval_95": [round(scored.low, 4), round(scored.high, 4)],
            "by_origin": {
                origin: f"{int(sum(right))}/{len(right)}"
                for origin, right in sorted(_right_by_origin(rows, source).items())
            },
            "further_tags": sum(len(row[source]["tags"]) > 1 for row in rows),
            "parallax_truck_above_pan": round(separation(kinds["pan"], kinds["truck"]), 4),
            "parallax_dolly_above_zoom": round(separation(zooms, kinds["dolly"]), 4),
            "object_motion_mean_error": round(float(np.mean(errors or [np.nan])), 4),
            "cpu_ms_per_clip": round(
                1e3 * float(np.median([r[source]["seconds"] for r in rows])), 2
            ),
        }
    return summary


def _warped(row: dict[str, Any]) -> bool:
    return str(row["origin"]).startswith("still")


def _right_by_origin(rows: Sequence[dict[str, Any]], source: str) -> dict[str, list[bool]]:
    right: dict[str, list[bool]] = {}
    for row in rows:
        right.setdefault(row["origin"], []).append(first_tag(row, source) == row["label"])
    return right


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """The confusion matrix of optical flow, and the parallax of each kind of path."""
    import matplotlib
    from matplotlib.figure import Figure

    counts, scored = confusion(rows, "flow"), accuracy(rows, "flow")
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False}):
        figure = Figure(figsize=(11.5, 5.2), layout="constrained", dpi=110)
        left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        left.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ink = "white" if share[row, column] > 0.5 else "black"
                left.text(column, row, str(count), ha="center", va="center", color=ink)
        names = [name.replace("_", " ") for name in COLUMNS]
        left.set_xticks(range(len(COLUMNS)), names, rotation=40, ha="right")
        left.set_yticks(range(len(CLASSES)), names[:-1])
        left.set(xlabel="first tag of the clip", ylabel="what the camera did")
        left.set_title(
            f"{len(rows)} shots with known camera paths: {100 * scored.mean:.1f} % right "
            f"(95 %: {100 * scored.low:.1f} to {100 * scored.high:.1f})", fontsize=10,
        )  # fmt: skip
        _draw_parallax(right, rows)
        with atomic_path(file, suffix=".png") as temporary:
            figure.savefig(temporary, metadata={"Software": None})


def _draw_parallax(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    kinds = {
        "turns (pan, tilt)": ("rooms/pan", "rooms/tilt"),
        "zooms, warped stills": (),
        "dollies": ("rooms/dolly",),
        "trucks": ("rooms/truck",),
    }
    for place, (_, origins) in enumerate(kinds.items()):
        values = [
            row["flow"]["parallax"]
            for row in rows
            if row["origin"] in origins
            or (not origins and _warped(row) and row["label"].startswith("zoom"))
        ]
        offsets = place + np.linspace(-0.25, 0.25, max(len(values), 1))[: len(values)]
        axes.scatter(sorted(values), offsets, s=14, alpha=0.75)
    axes.set_yticks(range(len(kinds)), list(kinds))
    axes.invert_yaxis()
    axes.set_xlim(left=-0.003)
    axes.set_xlabel("score `parallax`")
    axes.set_title("does the camera travel, or only turn?", fontsize=10)


def print_matrix(rows: Sequence[dict[str, Any]], source: str) -> None:
    print(f"\n{source}: label by first tag")
    print(" " * 14 + " ".join(f"{name.replace('_', '')[:7]:>7}" for name in COLUMNS))
    for name, counts in zip(CLASSES, confusion(rows, source), strict=True):
        print(f"{name:14s}" + " ".join(f"{count or '.':>7}" for count in counts))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/curation"))
    parser.add_argument("--warped", type=int, default=150, help="shots before natural stills")
    parser.add_argument("--rooms", type=int, default=44, help="shots of rendered rooms")
    parser.add_argument("--physics", type=int, default=10, help="shots by a fixed camera")
    parser.add_argument("--seed", type=int, default=0, help="1000 was used for calibration")
    parser.add_argument("--half", type=int, default=1, choices=(0, 1), help="0 for calibration")
    given = parser.parse_args()
    shots = itertools.chain(
        warped_shots(given.warped, given.seed, given.half),
        world_shots(given.rooms, given.seed, ROOMS),
        world_shots(given.physics, given.seed, PHYSICS),
    )
    total = given.warped + given.rooms + given.physics
    rows = list(tqdm(measure_shots(shots), total=total, unit="shot", mininterval=5))
    summary = summarise(rows)
    write_json(given.out / "camera_tags.json", {"machine": machine(), **summary})
    draw(rows, given.out / "camera_tags.png")
    for source in SOURCES:
        print_matrix(rows, source)
        print(*(f"{key}: {value}" for key, value in summary[source].items()), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
