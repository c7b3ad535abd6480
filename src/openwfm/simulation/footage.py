"""Filming: takes of simulated shots, their public captions, and the answer sheet beside them."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from openwfm.files import read_json, write_json
from openwfm.randomness import numpy_generator
from openwfm.simulation import captions
from openwfm.simulation.camera import draw_camera
from openwfm.simulation.config import FootageConfig
from openwfm.simulation.edit import Shot, Take, answers, edited, plan_footage
from openwfm.simulation.looks import draw_look
from openwfm.simulation.natural import link_natural
from openwfm.simulation.render import choose_backend
from openwfm.simulation.scenarios import draw_scene
from openwfm.simulation.stage import Stage
from openwfm.simulation.titles import title_card
from openwfm.video import write_video

RECIPE = 1
BLACK_LEVEL = 0.04


@dataclass(frozen=True, kw_only=True)
class FootageSummary:
    """``filmed`` of ``num_takes`` were made now, the others were there; frames are those filmed
    now, ``seconds`` is wall time."""

    num_takes: int
    filmed: int
    num_frames: int
    seconds: float

    @property
    def frames_per_second(self) -> float:
        return self.num_frames / self.seconds if self.seconds else 0.0


def film_footage(config: FootageConfig) -> FootageSummary:
    """Film the takes that are not there yet: ``out/raw/take_XXXX.mp4`` and ``.json``, and the
    truth in ``out/answers/answers.json``.

    The files are a function of the config without ``workers``. Raises ValueError when ``out``
    holds footage of another config, RuntimeError when there is no headless OpenGL.
    """
    started = time.perf_counter()
    out = Path(config.out)
    _claim(out, config)
    takes = plan_footage(num_takes=config.num_takes, seed=config.seed, fps=config.fps)
    write_json(out / "answers" / "answers.json", [answers(take, config.fps) for take in takes])
    missing = [take for take in takes if not all(p.is_file() for p in _take_paths(out, take.index))]
    frames = 0
    if missing:
        backend = choose_backend()
        with tqdm(total=len(missing), desc="filming", unit="take") as bar:
            for count in _film_all(missing, config, backend):
                frames += count
                bar.update()
    if config.natural:
        link_natural(out)
    return FootageSummary(
        num_takes=len(takes),
        filmed=len(missing),
        num_frames=frames,
        seconds=time.perf_counter() - started,
    )


def _film_all(takes: list[Take], config: FootageConfig, backend: str) -> Iterator[int]:
    film = functools.partial(film_take, config=config, backend=backend)
    if config.workers == 1:
        yield from map(film, takes)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(config.workers, len(takes))) as pool:
        yield from pool.imap_unordered(film, takes)


def film_take(take: Take, config: FootageConfig, backend: str) -> int:
    """Write one take and its captions; returns its number of frames."""
    stage = _stage(config.size, config.supersample, config.fps, backend)
    entries: list[dict[str, Any]] = []

    def shots() -> Iterator[np.ndarray]:
        for shot, (start, end) in zip(take.shots, take.spans(), strict=True):
            frames, caption = _film_shot(stage, shot, config.size)
            if caption:
                entry = {"caption": caption, "scenario": shot.scenario}
                entries.append({"start": start, "end": end, **entry})
            yield frames

    video, sidecar = _take_paths(Path(config.out), take.index)
    frames = np.stack(list(edited(take, shots())))
    assert len(frames) == take.num_frames
    write_video(video, torch.from_numpy(frames), config.fps)
    public = {"schema": 1, "kind": "simulated", "license": "CC0", "fps": config.fps}
    write_json(sidecar, {**public, "shots_captions": entries})
    return len(frames)


def _film_shot(stage: Stage, shot: Shot, size: int) -> tuple[np.ndarray, str]:
    """Frames ``t h w c`` and the caption, which is empty where nothing can be seen."""
    rng = numpy_generator(shot.seed, "scene")
    if shot.kind == "title":
        card = title_card(rng, size)
        return np.broadcast_to(card, (shot.num_frames, *card.shape)), ""
    scene = draw_scene(rng, shot.scenario)
    camera = draw_camera(rng, shot.camera, scene.height)
    look = draw_look(numpy_generator(shot.look, "look"))
    if shot.kind == "frozen":
        frames, _ = stage.film(scene, look, camera, 1)
        frames = np.broadcast_to(frames, (shot.num_frames, *frames.shape[1:]))
        return frames, captions.describe_frozen(scene, look)
    frames, recording = stage.film(scene, look, camera, shot.num_frames)
    if shot.kind == "black":
        return np.rint(frames * BLACK_LEVEL).astype(np.uint8), ""
    return frames, captions.describe(shot.scenario, scene, recording, look, camera, rng)


@functools.cache
def _stage(size: int, supersample: int, fps: int, backend: str) -> Stage:
    """One for each process: its GL context costs a quarter of a second."""
    return Stage(size=size, supersample=supersample, fps=fps, backend=backend)


def _take_paths(out: Path, index: int) -> tuple[Path, Path]:
    """The video and its public sidecar; a take is finished when both are there."""
    stem = out / "raw" / f"take_{index:04d}"
    return stem.with_suffix(".mp4"), stem.with_suffix(".json")


def _claim(out: Path, config: FootageConfig) -> None:
    """Write down what the folder is made of, or check that it is the same."""
    made_of = {"recipe": RECIPE, **asdict(config)}
    for key in ("out", "workers", "natural"):
        del made_of[key]
    path = out / "answers" / "config.json"
    if not path.is_file():
        write_json(path, made_of)
        return
    found = read_json(path)
    if found != made_of:
        keys = sorted(key for key in made_of if found.get(key) != made_of[key])
        differences = ", ".join(f"{key}={found.get(key)}, not {made_of[key]}" for key in keys)
        raise ValueError(
            f"out={out}: holds footage of another config ({differences}); "
            "choose another folder or remove this one"
        )
