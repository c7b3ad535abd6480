"""Any world into shards with ground truth: filmed in parallel, packed in order."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from openwfm.data.manifest import COLUMNS
from openwfm.data.members import action_bytes, camera_bytes, npz_bytes, trajectory_bytes
from openwfm.data.shards import ShardIndex, ShardWriter, bucket
from openwfm.files import atomic_path, read_json, write_json
from openwfm.simulation.config import SimulationConfig
from openwfm.simulation.render import choose_backend
from openwfm.simulation.worlds import ClipRejectedError, World, WorldClip, WorldConfig
from openwfm.text import TextEncoder, text_encoder
from openwfm.video import video_bytes

RECIPE = 1
NOT_CONTENT = ("out", "workers")
MAX_SHARD_BYTES = 64_000_000
ID_LENGTH = 24
CAPTION_SOURCE = "ground_truth"
MANIFEST_SCHEMA = pa.schema([*COLUMNS, ("world", pa.string()), ("facts", pa.string())])


@dataclass(frozen=True, kw_only=True)
class WorldSummary:
    """``filmed`` of ``num_clips`` were made now; ``kept`` + ``rejected`` = ``num_clips``."""

    num_clips: int
    filmed: int
    kept: int
    rejected: int
    num_frames: int
    seconds: float


def film_world(config: SimulationConfig, world: WorldConfig) -> WorldSummary:
    """Film ``config.num_clips`` clips into shards in ``config.out``.

    Each clip is a function of (world, seed, index); a killed run goes on where it stopped. The
    files do not depend on ``workers``. Raises ValueError when ``out`` holds other clips,
    RuntimeError when a worker is killed or there is no headless OpenGL.
    """
    started = time.perf_counter()
    out = Path(config.out)
    identity = claim(out, config, world)
    work = out / ".work"
    if (out / "index.json").is_file() and not work.is_dir():
        filmed, frames = 0, 0
    else:
        missing = [i for i in range(config.num_clips) if not _clip_file(work, i).is_file()]
        job = functools.partial(film_clip, config=world, seed=config.seed, work=work)
        frames = sum(run_jobs(job, missing, config.workers, "filming", "clip"))
        filmed = len(missing)
        _pack(config, world, work, identity)
        shutil.rmtree(work)
    rows = ShardIndex.open(out).manifest()
    kept = rows.column("status").to_pylist().count("kept")
    assert rows.num_rows == config.num_clips
    return WorldSummary(
        num_clips=config.num_clips,
        filmed=filmed,
        kept=kept,
        rejected=config.num_clips - kept,
        num_frames=frames,
        seconds=time.perf_counter() - started,
    )


def run_jobs(
    job: Callable[..., int], indices: list[int], workers: int, title: str, unit: str
) -> Iterator[int]:
    """``job(index, backend=…)`` for every index, in this process or in ``workers`` of them.

    Raises RuntimeError when a worker is killed; what was finished stays on disk.
    """
    if not indices:
        return
    job = functools.partial(job, backend=choose_backend())
    with tqdm(total=len(indices), desc=title, unit=unit) as bar:
        if workers == 1:
            for index in indices:
                yield job(index)
                bar.update()
            return
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(workers, len(indices)), mp_context=context)
        with one_thread_each(), pool:
            try:
                for result in pool.map(job, indices):
                    yield result
                    bar.update()
            except BrokenProcessPool as error:
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(
                    "a worker process was killed (out of memory?); run the same command again to "
                    "go on, perhaps with fewer workers"
                ) from error


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started in the block compute with one thread each: they share the cores,
    and libraries read these variables when they are loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def film_clip(index: int, config: WorldConfig, seed: int, work: Path, backend: str) -> int:
    """Write clip ``index`` or its rejection, whole; returns how many frames all views have."""
    try:
        clip = open_world(config, seed, backend).film(index)
    except ClipRejectedError as error:
        members = {"json": _json({"rejection": {"reason": error.reason, "detail": error.detail}})}
        num_frames = 0
    else:
        members = encode(clip, config.name, seed, index)
        num_frames = clip.num_frames * len(clip.views)
    with atomic_path(_clip_file(work, index)) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{k: np.frombuffer(v, np.uint8) for k, v in members.items()})  # type: ignore[arg-type]
    return num_frames


_opened: dict[tuple[WorldConfig, int, str], World] = {}


def open_world(config: WorldConfig, seed: int, backend: str) -> World:
    """One for each process: compiling a model and its GL context takes a second. The one before
    is closed, because GL objects must be freed in their own context."""
    key = (config, seed, backend)
    if key not in _opened:
        while _opened:
            _opened.popitem()[1].close()
        _opened[key] = config.open(seed, backend)
    return _opened[key]


def encode(clip: WorldClip, world: str, seed: int, index: int) -> dict[str, bytes]:
    """The members of a sample, without text; ``json`` has no id yet."""
    single = set(clip.views) == {"main"}
    members: dict[str, bytes] = {
        "mp4" if single else f"{view}.mp4": video_bytes(torch.from_numpy(video), clip.fps)
        for view, video in clip.views.items()
    }
    if clip.cameras:
        members["camera.npz"] = camera_bytes(clip.cameras)
    if clip.action is not None:
        members["action.npz"] = action_bytes(clip.action)
    if clip.trajectory is not None:
        members["trajectory.npz"] = trajectory_bytes(clip.trajectory)
    if clip.state:
        members["state.npz"] = npz_bytes(clip.state)
    if clip.masks:
        members["mask.npz"] = npz_bytes({**clip.masks, "names": np.array(clip.mask_names)})
    if clip.depth:
        members["depth.npz"] = npz_bytes(clip.depth)
    height, width = next(iter(clip.views.values())).shape[1:3]
    source = hashlib.sha256(f"{world}/{seed}/{clip.group}".encode()).hexdigest()[:16]
    videos = [data for name, data in members.items() if name.endswith("mp4")]
    members["json"] = _json(
        {
            "schema": 1, "kind": "simulated", "world": world, "source": source,
            "path": f"{world}/{index:06d}", "fps": clip.fps, "width": width, "height": height,
            "num_frames": clip.num_frames, "num_bytes": sum(map(len, videos)),
            "start_frame": 0, "end_frame": clip.num_frames, "start_seconds": 0.0,
            "end_seconds": clip.num_frames / clip.fps, "views": list(clip.views),
            "caption": clip.caption, "caption_source": CAPTION_SOURCE,
            "captions": [
                {"text": text, "source": CAPTION_SOURCE, "view": view}
                for view, text in clip.captions.items()
            ],
            "tags": list(clip.tags), "scores": {}, "facts": dict(clip.facts),
            "provenance": {"kind": "simulated", "world": world, "seed": seed, "index": index},
        }
    )  # fmt: skip
    return members


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def _clip_file(work: Path, index: int) -> Path:
    return work / f"{index:06d}.npz"


def _pack(config: SimulationConfig, world: WorldConfig, work: Path, identity: str) -> None:
    """Clips in order into shards; one row of the manifest for each, kept or rejected."""
    out = Path(config.out)
    encoder = text_encoder(config.text_encoder) if config.text_encoder else None
    writer = ShardWriter(out, max_bytes=MAX_SHARD_BYTES)
    rows: list[dict[str, Any]] = []
    seen: dict[str, tuple[int, str]] = {}
    for index in tqdm(range(config.num_clips), desc="packing", unit="clip"):
        with np.load(_clip_file(work, index), allow_pickle=False) as file:
            members = {name: file[name].tobytes() for name in file.files}
        facts = json.loads(members.pop("json"))
        row = {"record": "clip", "id": f"{world.name}-{index:06d}", "world": world.name}
        row |= {"path": f"{world.name}/{index:06d}", "kind": "simulated"}
        if "rejection" in facts:
            rows.append(row | {"status": "rejected", "stage": "film", **facts["rejection"]})
            continue
        videos = [members[name] for name in sorted(members) if name.endswith("mp4")]
        key = hashlib.sha256(b"".join(videos)).hexdigest()[:ID_LENGTH]
        first = seen.setdefault(key, (index, facts["source"]))
        if first[0] != index and first[1] == facts["source"]:
            # A counterfactual that changes nothing that can be seen (a heavier body falls alike).
            key = hashlib.sha256(f"{key}/{index}".encode()).hexdigest()[:ID_LENGTH]
        elif first[0] != index:
            detail = f"shows the same as clip {first[0]}"
            rejection = {"status": "rejected", "stage": "pack", "reason": "duplicate"}
            rows.append(row | rejection | {"detail": detail})
            continue
        facts |= {"id": key, "text_encoder": "" if encoder is None else encoder.name}
        if encoder is not None:
            members["text.npy"] = _embed(encoder, facts["caption"])
            for caption in facts["captions"] if len(facts["views"]) > 1 else ():
                if caption["view"] in facts["views"]:  # each view has a text of its own
                    name = f"{caption['view']}.text.npy"
                    members[name] = _embed(encoder, caption["text"])
        members["json"] = _json(facts)
        seconds = facts["num_frames"] / facts["fps"]
        writer.add(bucket(facts["width"], facts["height"], seconds), key, facts["source"], members)
        shared = {name: facts[name] for name, _ in COLUMNS if name in facts}
        rows.append(row | shared | {"status": "kept", "facts": _json(facts["facts"]).decode()})
    writer.finish(pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA), identity)


def _embed(encoder: TextEncoder, caption: str) -> bytes:
    """One sentence a call, so that the result does not depend on what else is in a batch."""
    buffer = io.BytesIO()
    np.save(buffer, encoder.encode([caption])[0].astype(np.float16), allow_pickle=False)
    return buffer.getvalue()


def claim(out: Path, *parts: Any) -> str:
    """Write down what the folder is made of (the fields of ``parts``, dataclasses), or check that
    it is the same; returns its hash.

    Raises ValueError naming the keys that differ.
    """
    made_of: dict[str, Any] = {"recipe": RECIPE}
    for part in parts:
        made_of |= {key: value for key, value in asdict(part).items() if key not in NOT_CONTENT}
        made_of["world"] = getattr(part, "name", made_of.get("world"))
    made_of = json.loads(json.dumps(made_of, sort_keys=True))
    path = out / "simulation.json"
    found = read_json(path) if path.is_file() else made_of
    if found != made_of:
        keys = sorted(key for key in made_of | found if found.get(key) != made_of.get(key))
        differences = ", ".join(f"{k}={found.get(k)}, not {made_of.get(k)}" for k in keys)
        raise ValueError(
            f"out={out}: holds clips of another config ({differences}); choose another folder or "
            "remove this one"
        )
    write_json(path, made_of)
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
