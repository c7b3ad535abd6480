"""Streams of frames, and on a trained world: quality in less precision, and drafts of video."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.autoregressive import KeyValueCache, preset
from openwfm.autoregressive.generate import Drafter, PreviousFrame
from openwfm.autoregressive.model import AutoregressiveWorldModel, TextConfig
from openwfm.autoregressive.native.library import library
from openwfm.autoregressive.objective import NextTokenConfig
from openwfm.autoregressive.quantized import PRECISIONS
from openwfm.autoregressive.runtime import DecodingConfig, decoder_for
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.benchmarks.autoregressive_drafts import GREEDY, LENGTHS, timed
from openwfm.data.datamodule import ShardDataModule
from openwfm.evaluation.clips import DrawnClips, data_config
from openwfm.evaluation.config import EvaluateConfig
from openwfm.tokenizer import VideoTokenizer
from openwfm.tokenizer import preset as tokenizer_preset
from openwfm.world import World
from openwfm.world.autoregressive import AutoregressiveWorld
from openwfm.world.world import WorldFacts, weights_folder


def decodings(precisions: tuple[str, ...] = ("fp32",)) -> dict[str, DecodingConfig]:
    """Torch's and, where it can be built, the compiled loop, in every precision asked for."""
    loops = (False, True) if library() is not None else (False,)
    return {
        f"{'native' if native else 'torch'} {precision}": DecodingConfig(
            precision=precision,  # type: ignore[arg-type]
            native=native,
        )
        for native in loops
        for precision in precisions
    }


def of_world(
    folder: str | None, shards: str | None, repeats: int, quick: bool, seed: int
) -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """What makes each table; nothing is loaded before."""

    @cache
    def world() -> AutoregressiveWorld:
        if folder is None:
            return random_world(seed)
        loaded = World.load(folder)
        if not isinstance(loaded, AutoregressiveWorld):
            raise ValueError(f"world={folder}: must be an autoregressive world")
        return loaded

    makers = {"stream": lambda: stream(world(), repeats, quick, seed)}
    if folder is None:
        return makers
    assert shards is not None
    clips = cache(lambda: held_out(world(), folder, shards, 2 if quick else 8, seed))
    return makers | {
        "quality": lambda: quality(world(), clips()),
        "speculation": lambda: speculation(world(), clips(), repeats, seed),
    }


def random_world(seed: int) -> AutoregressiveWorld:
    """A nano world of random weights: frames of 64x64, windows of 3 latent frames."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoregressiveWorldModel(
            net=preset("ar_nano"),
            objective=NextTokenConfig(),
            sampler=SamplerConfig(),
            text=TextConfig(),
            tokenizer_sha256="",
        )
        settings = replace(
            tokenizer_preset("dv8x8x8_nano"), fsq_levels=(8, 5, 5, 5), latent_channels=4
        )
        tokenizer = VideoTokenizer(settings)
    facts = WorldFacts(
        temporal=tokenizer.temporal,
        max_condition=2,
        needs_frames=True,
        weights_sha256={},
        size=(64, 64),
        num_frames=17,
        fps=24.0,
        reads_text=False,
    )
    return AutoregressiveWorld(
        model.eval().requires_grad_(False), tokenizer.eval().requires_grad_(False), facts
    )


def stream(
    world: AutoregressiveWorld, repeats: int, quick: bool, seed: int
) -> list[dict[str, Any]]:
    """Frames a second, and milliseconds from the call to the first new frame. ``grown`` is how the
    process's peak of memory grows from the first window to the end."""
    size = world.facts.size or (64, 64)
    temporal, window = world.facts.temporal, world.model.config.grid[0]
    frames = torch.zeros(3, int(temporal.frames(1)), *size)
    total = int(temporal.frames((2 if quick else 8) * window))
    rows = []
    for label, decoding in decodings().items():
        world.decoding = decoding
        waits, rates, grown = [], [], []
        for turn in range(repeats + 1):
            start = time.perf_counter()
            parts = world.stream(frames, num_frames=total, seed=seed)
            next(parts)
            next(parts)
            waits.append(time.perf_counter() - start)
            for _ in range(window - 1):
                next(parts)
            before, count = _peak(), int(temporal.frames(window + 1))
            for part in parts:
                count += part.shape[1]
            rates.append((count - frames.shape[1]) / (time.perf_counter() - start))
            grown.append(_peak() - before)
            if turn == 0:  # the first fills caches and allocator
                waits, rates = [], []
        rows.append(
            {
                "decoder": label,
                "frame": f"{size[0]}x{size[1]}",
                "frames": total,
                "window": int(temporal.frames(window)),
                "first_ms": 1000 * statistics.median(waits),
                "frames/s": statistics.median(rates),
                "grown_MiB": statistics.median(grown),
            }
        )
    world.decoding = DecodingConfig()
    return rows


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held_out(
    world: AutoregressiveWorld, folder: str, shards: str, num_clips: int, seed: int
) -> tuple[Int[Tensor, "b f y x"], Float[Tensor, "b n d"] | None]:
    """Tokens and text of clips that the world was not trained on."""
    request = EvaluateConfig(run=folder, shards=shards)
    data = data_config(request, weights_folder(Path(folder)), text=world.facts.reads_text)
    drawn = DrawnClips(
        ShardDataModule(config=data), "test", num_clips=num_clips, batch_size=num_clips, seed=seed
    )
    batch = next(iter(drawn))
    assert batch.video is not None
    with torch.inference_mode():
        indices = world.tokenizer.encode_indices(batch.video)
    return indices, batch.text


def quality(
    world: AutoregressiveWorld,
    clips: tuple[Int[Tensor, "b f y x"], Float[Tensor, "b n d"] | None],
) -> list[dict[str, Any]]:
    """Teacher-forced on held-out clips, token by token: nats from the fp32 module's prediction,
    how often the likeliest token is the same, and how often it is the clip's."""
    model, (indices, text) = world.model, clips
    sequence = model.sequence(indices)
    context = model.context(text)
    given = sequence.shape[1] - indices[0].numel() + model.config.frame_tokens
    rows = []
    with torch.inference_mode():
        exact = model.net(sequence[:, :-1], context=context)[:, given - 1 :].log_softmax(-1)
        targets = sequence[:, given:]
        for label, decoding in decodings(PRECISIONS).items():
            decoder = decoder_for(model.net, decoding)
            cache = KeyValueCache(model.config, batch=len(sequence))
            steps = [
                decoder.hidden(token, context=context, cache=cache)
                for token in sequence[:, :-1].split(1, 1)
            ]
            hidden = torch.cat(steps[given - 1 :], 1)
            parts = [decoder.logits(part) for part in hidden.split(1, 1)]
            logits = torch.cat(parts, 1).log_softmax(-1)
            rows.append(
                {
                    "decoder": label,
                    "tokens": targets.numel(),
                    "KL_nats": float((exact.exp() * (exact - logits)).sum(-1).mean()),
                    "same_top1": _mean(logits.argmax(-1) == exact.argmax(-1)),
                    "accuracy": _mean(logits.argmax(-1) == targets),
                    "accuracy_fp32": _mean(exact.argmax(-1) == targets),
                }
            )
    return rows


def _mean(hits: Tensor) -> float:
    return float(hits.float().mean())


def speculation(
    world: AutoregressiveWorld,
    clips: tuple[Int[Tensor, "b f y x"], Float[Tensor, "b n d"] | None],
    repeats: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Drafts of the previous frame on held-out clips (without text), greedy and as the weights
    sample."""
    model = world.model
    per_frame = model.config.frame_tokens
    given = min(model.objective.max_frames, model.config.grid[0] - 1)
    prompts = [model.sequence(clip[None, :given]) for clip in clips[0]]
    count = (model.config.grid[0] - given) * per_frame
    drafters: list[Drafter] = [PreviousFrame(per_frame)] * len(prompts)
    rows = []
    for name, sampler in (("greedy", GREEDY), ("sampled", model.sampler)):
        for label, decoding in decodings().items():
            for length in LENGTHS:
                row = timed(
                    model.net, prompts, count, sampler, drafters, length=length, decoding=decoding,
                    repeats=repeats, seed=seed, context=model.no_text(1),
                )  # fmt: skip
                rows.append({"decoder": label, "chance": None, "sampler": name, **row})
    return rows
