"""What speculation saves and where it loses, by how often a draft holds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from openwfm.autoregressive import Transformer
from openwfm.autoregressive.generate import (
    Drafter,
    DraftLength,
    Statistics,
    generate_tokens,
    speculate_tokens,
)
from openwfm.autoregressive.runtime import DecodingConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.nn.attention import Keys
from openwfm.randomness import torch_generator

GREEDY = SamplerConfig(temperature=0.0)
LENGTHS: tuple[int | None, ...] = (4, 8, None)  # None: adaptive


class Corrupted:
    """Drafts of known tokens, of which each holds with probability ``chance``."""

    def __init__(self, truth: Int[Tensor, " n"], chance: float, vocabulary: int, seed: int) -> None:
        generator = torch_generator(seed, "bench/drafts")
        wrong = torch.rand(len(truth), generator=generator) >= chance
        self.tokens = torch.where(wrong, (truth + 1) % vocabulary, truth)

    def propose(self, tokens: Int[Tensor, " n"], count: int) -> Int[Tensor, " k"]:
        return self.tokens[len(tokens) : len(tokens) + count]


def timed(
    network: Transformer,
    prompts: list[Tensor],
    count: int,
    sampler: SamplerConfig,
    drafters: list[Drafter],
    *,
    length: int | None,
    decoding: DecodingConfig,
    repeats: int,
    seed: int,
    context: list[Keys] | None = None,
) -> dict[str, Any]:
    """Speculation beside decoding one by one, prompt by prompt and by turns."""
    ratios, found = [], Statistics()
    same = True
    for turn in range(repeats):
        for index, (prompt, drafter) in enumerate(zip(prompts, drafters, strict=True)):
            generator = torch_generator(seed, "bench/plain", turn, index)
            start = time.perf_counter()
            plain = generate_tokens(
                network, prompt, count, sampler, context=context, generator=generator,
                decoding=decoding,
            )  # fmt: skip
            middle = time.perf_counter()
            drafted = speculate_tokens(
                network, prompt, count, sampler, drafter, num_drafts=length or DraftLength(),
                context=context, generator=generator, statistics=found, decoding=decoding,
            )  # fmt: skip
            ratios.append((middle - start) / (time.perf_counter() - middle))
            same &= bool(torch.equal(plain, drafted))
    made = repeats * len(prompts) * (count - 1)
    return {
        "drafts": length or "adaptive",
        "drafted": statistics.fmean(found.drafted),
        "accepted": statistics.fmean(found.accepted),
        "passes_saved": made / found.passes,
        "times_faster": statistics.median(ratios),
        "same": same if sampler.temperature == 0 else None,
    }


def by_chance(
    network: Transformer, decodings: dict[str, DecodingConfig], repeats: int, quick: bool, seed: int
) -> Iterator[dict[str, Any]]:
    """Rows for drafts that hold with a given probability, each independently."""
    vocabulary, count = network.config.vocabulary, 64 if quick else 160
    generator = torch_generator(seed, "bench/prompt")
    prompt = torch.randint(vocabulary, (1, 16), generator=generator)
    truth = torch.cat((prompt, generate_tokens(network, prompt, count, GREEDY)), 1)[0]
    for label, decoding in decodings.items():
        for chance in (0.0, 0.5, 0.9) if quick else (0.0, 0.3, 0.5, 0.7, 0.9, 0.97):
            drafter = Corrupted(truth, chance, vocabulary, seed)
            for length in LENGTHS:
                row = timed(
                    network, [prompt], count, GREEDY, [drafter], length=length, decoding=decoding,
                    repeats=max(3, repeats), seed=seed,
                )  # fmt: skip
                yield {"decoder": label, "chance": chance, "sampler": "greedy", **row}
