"""Approximate modes of a trained world: how much faster, and how far from the exact run."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openwfm.diffusion.config import SamplerConfig
from openwfm.randomness import numpy_generator
from openwfm.world.diffusion import DiffusionWorld

SEEDS, QUICK_SEEDS = 24, 3
FRAMES, SIDE = 9, 64  # given; pixels
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "yellow": (1, 1, -1)}
EXACT = SamplerConfig(num_steps=35, guidance=1.0)
INTERVAL = (0.2, 5.0)
MODES: dict[str, SamplerConfig] = {
    "exact": EXACT,
    "guidance in 0.2 .. 5": replace(EXACT, guidance_interval=INTERVAL),
    **{f"cache {threshold}": replace(EXACT, cache=threshold) for threshold in (0.1, 0.2, 0.4)},
    **{
        f"cache {threshold}, guidance in 0.2 .. 5": replace(
            EXACT, cache=threshold, guidance_interval=INTERVAL
        )
        for threshold in (0.2, 0.4)
    },
    **{
        f"{steps} steps of res_2ab": replace(EXACT, kind="res_2ab", num_steps=steps)
        for steps in (12, 8, 4)
    },
}


def approximate(folder: str, quick: bool) -> list[dict[str, Any]]:
    """A row for each of `MODES`, over discs that move on a plain ground; each seed another disc.

    ``error`` is the RMS difference of the generated latents from the exact run's of the same seed,
    over the RMS difference of exact runs of two seeds of one disc; ``psnr`` compares the decoded
    frames with the exact run's, in dB. Medians over seeds, and the worst error.
    """
    world = DiffusionWorld.read(Path(folder))
    seeds = QUICK_SEEDS if quick else SEEDS
    tasks = [_task(world, seed) for seed in range(seeds)]
    wanted = [_run(world, task, EXACT, seed)[0] for seed, task in enumerate(tasks)]
    other = [_run(world, task, EXACT, seed + seeds)[0] for seed, task in enumerate(tasks)]
    scale = [_rms(one - two) for one, two in zip(wanted, other, strict=True)]
    rows = []
    for name, sampler in MODES.items():
        errors, psnr, ratios = [], [], []
        for seed, task in enumerate(tasks):
            exact_seconds = _run(world, task, EXACT, seed)[1]
            found, seconds = _run(world, task, sampler, seed)
            ratios.append(exact_seconds / seconds)
            errors.append(_rms(found - wanted[seed]) / scale[seed])
            psnr.append(_psnr(world, found, wanted[seed]))
        row = {"mode": name, "faster": statistics.median(ratios)}
        row |= {"error": statistics.median(errors), "worst_error": max(errors)}
        rows.append({**row, "psnr": statistics.median(psnr), "seeds": seeds})
    return rows


Task = tuple[Tensor, Tensor | None]


@torch.no_grad()
def _task(world: DiffusionWorld, seed: int) -> Task:
    """Given latents and text of a disc of some colour that moves at some speed."""
    random = numpy_generator(seed, "bench diffusion disc")
    colour = list(COLOURS)[random.integers(len(COLOURS))]
    (row, column), speed = random.uniform(16, 48, 2), random.uniform(-2, 2, 2)
    radius = random.uniform(5, 10)
    time_, y, x = (
        torch.arange(size, dtype=torch.float32).view(shape)
        for size, shape in ((FRAMES, (-1, 1, 1)), (SIDE, (1, -1, 1)), (SIDE, (1, 1, -1)))
    )
    distance = (y - row - speed[0] * time_) ** 2 + (x - column - speed[1] * time_) ** 2
    disc = (radius - distance.sqrt()).clamp(0, 1)
    paint = torch.tensor(COLOURS[colour], dtype=torch.float32).view(3, 1, 1, 1)
    video = torch.lerp(
        torch.zeros(3, FRAMES, SIDE, SIDE), paint.expand(-1, FRAMES, SIDE, SIDE), disc
    )
    return world.tokenizer.encode(video[None]), world.embed([f"a {colour} ball moves"])


def _run(
    world: DiffusionWorld, task: Task, sampler: SamplerConfig, seed: int
) -> tuple[Tensor, float]:
    """(latents, seconds)."""
    given, text = task
    started = time.perf_counter()
    latents = world.model.generate_latents(
        condition=given,
        num_latent_frames=given.shape[2] + 1,
        text=text,
        fps=torch.tensor([24.0]),
        seed=seed,
        sampler=sampler,
    )
    return latents, time.perf_counter() - started


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@torch.no_grad()
def _psnr(world: DiffusionWorld, found: Tensor, wanted: Tensor) -> float:
    """Of the generated frames, both decoded; pixels are 2 apart at most."""
    one, two = (
        world.tokenizer.decode(each)[:, :, FRAMES:].clamp(-1, 1) for each in (found, wanted)
    )
    return float(10 * torch.log10(4 / (one - two).square().mean().clamp(min=1e-10)))
