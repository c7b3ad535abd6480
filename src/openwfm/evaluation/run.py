"""Measure a run, whatever is in it, and write what was found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from openwfm.data.datamodule import ShardDataModule
from openwfm.evaluation.clips import DrawnClips, data_config
from openwfm.evaluation.config import EvaluateConfig
from openwfm.evaluation.futures import (
    Example,
    FutureReport,
    FuturesConfig,
    evaluate_futures,
    mean_of,
)
from openwfm.evaluation.obedience import ObedienceReport, evaluate_obedience
from openwfm.evaluation.reconstruction import ReconstructionReport, evaluate_reconstruction
from openwfm.files import read_json, sha256_file, write_json
from openwfm.provenance import code_state, package_versions
from openwfm.tokenizer import load_tokenizer
from openwfm.video import side_by_side, stack_rows, strip, to_uint8, write_png, write_video
from openwfm.weights import CONFIG, TENSORS
from openwfm.world import Sampling, World
from openwfm.world.world import weights_folder

FILE = "evaluation.json"
Report = FutureReport | ObedienceReport | ReconstructionReport
MEAN_CLIPS = 256  # training windows that the mean video averages


def evaluate_run(config: EvaluateConfig, *, progress: bool = False) -> tuple[Path, Report]:
    """Evaluate and write ``evaluation.json``, ``clips.csv``, ``strip.png`` and examples.

    Returns the output folder and the report. Raises ValueError for a run that is neither a
    tokenizer nor a world, and for data that does not fit it.
    """
    start = time.perf_counter()
    weights = weights_folder(config.run)
    kind = read_json(weights / CONFIG).get("kind")
    if kind not in ("tokenizer", "world"):
        raise ValueError(f"{weights / CONFIG}: kind={kind}: must be tokenizer or world")
    out = _out(config, weights)
    datamodule = ShardDataModule(config=data_config(config, weights, text=kind == "world"))
    clips = _draw(datamodule, config, config.split, config.num_clips)
    report: Report
    if kind == "world" and not config.condition_latents:
        report = _obedience(config, weights, clips, progress)
    elif kind == "world":
        report = _futures(config, weights, datamodule, clips, progress)
    else:
        report = _reconstruction(config, weights, clips, progress)
    code = code_state()
    facts = {
        "schema": 1,
        "split": config.split,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "data_manifest_sha256": datamodule.manifest_sha256,
        "weights_sha256": sha256_file(weights / TENSORS),
        "git_commit": code.commit,
        "uncommitted_sha256": code.diff_sha256,
        "packages": package_versions(),
        "examples": _write_examples(out, report.examples),
        "seconds": round(time.perf_counter() - start, 1),
    }
    report.scores.write_csv(out / "clips.csv")
    write_json(out / FILE, {**report.to_json(), **facts})
    return out, report


def _out(config: EvaluateConfig, weights: Path) -> Path:
    if config.out is not None:
        return Path(config.out)
    if weights.name != "weights":
        raise ValueError(f"out: missing: run={config.run} is a folder of weights, not a run")
    return weights.parent / "evaluation"


def _draw(
    datamodule: ShardDataModule, config: EvaluateConfig, split: str, num_clips: int
) -> DrawnClips:
    return DrawnClips(
        datamodule, split, num_clips=num_clips, batch_size=config.batch_size, seed=config.seed
    )


def _futures(
    config: EvaluateConfig,
    weights: Path,
    datamodule: ShardDataModule,
    clips: DrawnClips,
    progress: bool,
) -> FutureReport:
    world = World.load(weights, device=config.device)
    futures = FuturesConfig(
        condition_latents=config.condition_latents,
        threshold=config.threshold,
        seed=config.seed,
        num_examples=config.num_examples,
        sampling=Sampling(guidance=config.guidance, num_steps=config.num_steps),
    )
    mean_video = mean_of(_draw(datamodule, config, "train", MEAN_CLIPS))
    return evaluate_futures(world, clips, futures, mean_video=mean_video, progress=progress)


def _obedience(
    config: EvaluateConfig, weights: Path, clips: DrawnClips, progress: bool
) -> ObedienceReport:
    return evaluate_obedience(
        World.load(weights, device=config.device),
        clips,
        sampling=Sampling(guidance=config.guidance, num_steps=config.num_steps),
        seed=config.seed,
        num_examples=config.num_examples,
        progress=progress,
    )


def _reconstruction(
    config: EvaluateConfig, weights: Path, clips: DrawnClips, progress: bool
) -> ReconstructionReport:
    tokenizer = load_tokenizer(weights).to(config.device).eval()

    @torch.inference_mode()
    def reconstruct(videos: torch.Tensor) -> torch.Tensor:
        return tokenizer.decode(tokenizer.encode(videos.to(config.device))).cpu()

    return evaluate_reconstruction(
        reconstruct,
        clips,
        seed=config.seed,
        num_examples=config.num_examples,
        progress=progress,
    )


def _write_examples(out: Path, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """``examples/NN.{mp4,png}`` (left or above: real), ``NN_given.mp4`` and one picture of all."""
    listed, strips = [], []
    for number, example in enumerate(examples):
        real, made = to_uint8(example.real), to_uint8(example.made)
        name = f"examples/{number:02d}"
        facts = {
            "clip": example.key,
            "caption": example.caption,
            "condition_frames": example.condition_frames,
        }
        pair = torch.nn.functional.pad(
            side_by_side([real, made]), (0, 0, 0, 0, 0, real.shape[1] % 2)
        )
        write_video(
            out / f"{name}.mp4",
            pair,
            example.fps,
            {**facts, "shows": "left: real, right: made by a model", "synthetic": True},
        )
        if example.condition_frames:
            given = real[: example.condition_frames]
            write_video(out / f"{name}_given.mp4", given, example.fps, facts)
        rows = stack_rows([strip(real, every=2), strip(made, every=2)])
        write_png(out / f"{name}.png", rows)
        strips.append(rows)
        listed.append({**facts, "video": f"{name}.mp4", "picture": f"{name}.png"})
    if strips:
        write_png(out / "strip.png", stack_rows(strips))
    return listed
