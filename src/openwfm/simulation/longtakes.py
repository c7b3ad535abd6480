"""Raw takes of any world for curation: clips cut together, and the answer sheet beside them."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openwfm.files import read_json, write_json
from openwfm.simulation.config import LongTakesConfig, SimulationConfig
from openwfm.simulation.film import claim, open_world, run_jobs
from openwfm.simulation.worlds import ClipRejectedError, WorldConfig
from openwfm.video import write_video


@dataclass(frozen=True, kw_only=True)
class LongTakesSummary:
    """``filmed`` of ``num_takes`` were made now."""

    num_takes: int
    filmed: int
    num_frames: int
    seconds: float


def film_long_takes(
    config: SimulationConfig, world: WorldConfig, takes: LongTakesConfig
) -> LongTakesSummary:
    """``out/raw/take_XXXX.mp4`` with its captions, and ``out/answers/answers.json``: hard cuts,
    shots, and the clips that were rejected. The first view of every clip is shown."""
    started = time.perf_counter()
    out = Path(config.out)
    claim(out / "answers", config, world, takes)
    size = takes.shots_per_take
    starts = list(range(0, config.num_clips, size))
    missing = [start for start in starts if not _answer(out, start).is_file()]
    job = functools.partial(
        film_take, config=world, seed=config.seed, size=size, last=config.num_clips, out=out
    )
    frames = sum(run_jobs(job, missing, config.workers, "filming", "take"))
    write_json(out / "answers" / "answers.json", [read_json(_answer(out, s)) for s in starts])
    return LongTakesSummary(
        num_takes=len(starts),
        filmed=len(missing),
        num_frames=frames,
        seconds=time.perf_counter() - started,
    )


def film_take(
    start: int, config: WorldConfig, seed: int, size: int, last: int, out: Path, backend: str
) -> int:
    """One take of clips ``start`` to ``start + size``; returns its number of frames."""
    world = open_world(config, seed, backend)
    frames: list[np.ndarray] = []
    shots: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    fps, at = 0.0, 0
    for index in range(start, min(start + size, last)):
        try:
            clip = world.film(index)
        except ClipRejectedError as error:
            rejected.append({"clip": index, "reason": error.reason, "detail": error.detail})
            continue
        fps = clip.fps
        frames.append(next(iter(clip.views.values())))
        end = at + clip.num_frames
        shots.append({"start": at, "end": end, "clip": index, "caption": clip.caption})
        at = end
    stem = f"take_{start:06d}"
    if frames:
        write_video(out / "raw" / f"{stem}.mp4", torch.from_numpy(np.concatenate(frames)), fps)
        public = {"schema": 1, "kind": "simulated", "license": "CC0", "fps": fps}
        captions = [{**shot, "scenario": config.name} for shot in shots]
        write_json(out / "raw" / f"{stem}.json", {**public, "shots_captions": captions})
    cuts = [shot["start"] for shot in shots[1:]]
    answer = {"take": stem, "fps": fps, "num_frames": at, "cuts": cuts, "dissolves": []}
    write_json(_answer(out, start), {**answer, "shots": shots, "rejected": rejected})
    return at


def _answer(out: Path, start: int) -> Path:
    """Written last, so that a take that has one is finished."""
    return out / "answers" / f"take_{start:06d}.json"
