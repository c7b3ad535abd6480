"""``openwfm bench tokenizer``: speed and memory beside diffusers' ``AutoencoderKLCosmos``.

Both have the same weights and get the same inputs, in one process and by turns; a figure is the
median over the turns, a ratio the median of the ratios of neighbouring turns. Outputs are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from openwfm.benchmarks.tokenizer_memory import (
    TOLERANCE,
    peak_of_decode,
    peak_of_stream,
    peak_of_tiles,
)
from openwfm.interop.diffusers import to_diffusers
from openwfm.randomness import torch_generator
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, preset

CONFIGS = {
    "nano": preset("cv8x8x8_nano"),
    "small": replace(preset("cv8x8x8"), channels=32, channels_mult=(2, 4, 4)),
    "published": preset("cv8x8x8"),
}
TITLES = {
    "ceilings": "GFLOP/s of this machine",
    "speed": "ours beside diffusers: same weights and inputs, by turns",
    "training": "training step",
    "memory": "peak memory of decoding one clip",
    "tiles": "decoding in tiles beside decoding whole frames",
    "streaming": "streaming decode, a latent frame at a time",
}
Clip = tuple[int, int, int]
SPEED: tuple[tuple[str, Clip], ...] = (
    ("nano", (17, 64, 64)),
    ("nano", (33, 128, 128)),
    ("nano", (33, 256, 256)),
    ("small", (17, 64, 64)),
    ("small", (33, 128, 128)),
    ("small", (33, 256, 256)),
    ("published", (33, 128, 128)),
    ("published", (33, 256, 256)),
)
QUICK_PIXELS = 33 * 128 * 128  # clips up to this size; the largest and the longest are left out


@dataclass(frozen=True, kw_only=True)
class TokenizerBenchConfig:
    """``repeats`` turns of each measurement; ``quick`` leaves out the largest and longest clips.

    ``tables`` are some of `TITLES`, ``cases`` some rows of the table speed, such as
    "small 17x64x64"; None is all.
    """

    tables: tuple[str, ...] | None = None
    cases: tuple[str, ...] | None = None
    repeats: int = 3
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        known = {"tables": tuple(TITLES), "cases": tuple(f"{n} {_text(c)}" for n, c in SPEED)}
        for name, choices in known.items():
            if (chosen := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(chosen))
                if not chosen or not set(chosen) <= set(choices):
                    raise ValueError(f"{name}={chosen}: must be some of {', '.join(choices)}")
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats}: must be at least 1")


def bench_tokenizer(config: TokenizerBenchConfig) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The tables of `TITLES` that were asked for, one after the other: a name, a dict a row."""
    speed = [
        (name, size)
        for name, size in SPEED
        if not (config.quick and _size(size) > QUICK_PIXELS)
        and (config.cases is None or f"{name} {_text(size)}" in config.cases)
    ]
    clip = (33, 128, 128) if config.quick else (33, 256, 256)
    tiled, tile = ((1, 256, 256), 64) if config.quick else ((9, 512, 512), 128)
    lengths = (100, 129, 1_000) if config.quick else (100, 129, 10_000)
    small, published, nano = (CONFIGS[name] for name in ("small", "published", "nano"))
    makers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "ceilings": lambda: [ceilings(config)],
        "speed": lambda: [row for name, size in speed for row in compare(name, size, config)],
        "training": lambda: [compare_training(config)],
        "memory": lambda: [{"net": "small", "clip": _text(clip), **peak_of_decode(small, clip)}],
        "tiles": lambda: [
            {"net": "published", "clip": _text(tiled), "tile": tile}
            | peak_of_tiles(published, tiled, tile)
        ],
        "streaming": lambda: [
            {"net": "nano", "frames": frames, **peak_of_stream(nano, frames)} for frames in lengths
        ],
    }
    for table, make in makers.items():
        if config.tables is None or table in config.tables:
            yield table, make()


def network(config: TokenizerConfig, seed: int) -> VideoTokenizer:
    """An eval-mode tokenizer with torch's own initial weights, none of which are zero."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return VideoTokenizer(config).eval().requires_grad_(False)


def by_turns(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, one after the other, ``repeats`` times."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return seconds


@torch.no_grad()
def ceilings(config: TokenizerBenchConfig) -> dict[str, float]:
    """GFLOP/s of a matrix product and of a direct channels-last convolution, 256 channels wide."""
    generator = torch_generator(config.seed, "bench tokenizer ceilings")
    a, b = (torch.randn(1024, 1024, generator=generator) for _ in range(2))
    frames = torch.randn(9, 256, 32, 32, generator=generator)
    frames = frames.contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3, generator=generator)
    calls: dict[str, Callable[[], object]] = {
        "matrix product": lambda: a @ b,
        "convolution": lambda: F.conv2d(frames, kernel, padding=1),
    }
    work = {"matrix product": 2 * 1024**3, "convolution": 2 * 9 * 256**2 * frames[:, 0].numel()}
    by_turns(calls, 1)
    seconds = by_turns(calls, 2 * config.repeats + 1)
    return {name: work[name] / min(times) / 1e9 for name, times in seconds.items()}


@torch.no_grad()
def compare(name: str, size: Clip, config: TokenizerBenchConfig) -> list[dict[str, Any]]:
    """A row for encoding one clip, and one for decoding it. Asserts that outputs agree.

    GFLOP/s count the operations of diffusers' layers, as torch does (attention left out), for both:
    ours may pass the ceiling, because it needs fewer.
    """
    ours = network(CONFIGS[name], config.seed)
    theirs: Any = to_diffusers(ours)
    video = _video((1, 3, *size), config.seed)
    latents = ours.encode(video)
    rows = []
    for verb, one, other in (
        ("encode", lambda: ours.encode(video), lambda: theirs.encode(video).latent_dist.mode()),
        ("decode", lambda: ours.decode(latents), lambda: theirs.decode(latents).sample),
    ):
        with FlopCounterMode(display=False) as counter:
            wanted = other()
        error = _difference(one(), wanted)
        del wanted
        assert error <= TOLERANCE, f"{name} {size}: {verb} differs by {error:.1e}"
        figures = _figures(by_turns({"ours": one, "theirs": other}, config.repeats))
        speeds = {
            f"{who}_gflop_per_second": counter.get_total_flops() / figures[f"{who}_ms"] / 1e6
            for who in ("ours", "theirs")
        }
        row = {"net": name, "clip": _text(size), "does": verb}
        rows.append({**row, **figures, "difference": error, **speeds})
    return rows


def compare_training(config: TokenizerBenchConfig) -> dict[str, Any]:
    """Forward, L1, backward and AdamW at batch 4. Asserts that the losses of both agree."""
    tokenizer = network(CONFIGS["nano"], config.seed)
    theirs = to_diffusers(tokenizer).requires_grad_(True).train()
    ours = tokenizer.requires_grad_(True).train()
    size = (17, 64, 64)
    video = _video((4, 3, *size), config.seed)
    steps = {"ours": _step(ours, video), "theirs": _step(theirs, video)}
    first = {name: step() for name, step in steps.items()}
    assert abs(first["ours"] / first["theirs"] - 1) <= TOLERANCE, first
    figures = _figures(by_turns(dict(steps), config.repeats))
    rates = {f"{name}_samples_per_second": 4e3 / figures[f"{name}_ms"] for name in steps}
    return {"net": "nano", "clip": _text(size), "batch": 4, **rates, "ratio": figures["ratio"]}


def _step(module: nn.Module, video: Tensor) -> Callable[[], float]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step() -> float:
        output = module(video)
        loss = F.l1_loss(output if isinstance(output, Tensor) else output.sample, video)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def _figures(seconds: dict[str, list[float]]) -> dict[str, float]:
    pairs = zip(seconds["ours"], seconds["theirs"], strict=True)
    return {
        "ours_ms": 1e3 * statistics.median(seconds["ours"]),
        "theirs_ms": 1e3 * statistics.median(seconds["theirs"]),
        "ratio": statistics.median(theirs / ours for ours, theirs in pairs),
    }


def _video(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.rand(shape, generator=torch_generator(seed, "bench tokenizer video")) * 2 - 1


def _difference(ours: Tensor, wanted: Tensor) -> float:
    return float((ours - wanted).abs().max() / wanted.abs().max())


def _size(clip: Clip) -> int:
    return clip[0] * clip[1] * clip[2]


def _text(clip: Clip) -> str:
    return "x".join(map(str, clip))
