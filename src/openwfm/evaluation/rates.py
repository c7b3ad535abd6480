"""How many bits a tokenizer's latents take, and coarser latents with fewer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.tokenizer import VideoTokenizer

LATENT_BITS = 16  # of a number of a continuous latent as it is stored


def nominal_bits(tokenizer: VideoTokenizer, latents: Float[Tensor, "z f y x"]) -> float:
    """Without entropy coding: log2 of the vocabulary a token, or 16 bits a number."""
    if tokenizer.config.num_codes is not None:
        return math.log2(tokenizer.config.num_codes) * latents[0].numel()
    return float(LATENT_BITS * latents.numel())


def entropy_bits(counts: Mapping[int, int]) -> float:
    """Bits that an ideal coder needs for all counted symbols, knowing their frequencies only."""
    total = sum(counts.values())
    return sum(n * math.log2(total / n) for n in counts.values())


class ChannelCounts:
    """Frequencies of integer symbols, of each channel apart."""

    def __init__(self) -> None:
        self.channels: list[Counter[int]] = []

    def add(self, symbols: Int[Tensor, "z f y x"]) -> None:
        if not self.channels:
            self.channels = [Counter() for _ in symbols]
        for counter, channel in zip(self.channels, symbols, strict=True):
            values, counts = torch.unique(channel, return_counts=True)
            counter.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def bits(self) -> float:
        return sum(entropy_bits(counter) for counter in self.channels)


def rounded(
    latents: Float[Tensor, "z f y x"], step: Float[Tensor, " z"]
) -> tuple[Int[Tensor, "z f y x"], Float[Tensor, "z f y x"]]:
    """Symbols of a uniform quantiser of width ``step`` a channel, and what they stand for."""
    width = step.view(-1, 1, 1, 1)
    symbols = torch.round(latents / width)
    return symbols.long(), symbols * width
