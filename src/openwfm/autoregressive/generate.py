"""Tokens one after the other, or several at once where a draft foresaw them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.autoregressive.cache import KeyValueCache
from openwfm.autoregressive.runtime import Decoder, DecodingConfig, decoder_for
from openwfm.autoregressive.sampling import SamplerConfig, accept_drafts, choose, probabilities
from openwfm.autoregressive.transformer import Transformer, check_tokens
from openwfm.nn.attention import Keys

Context = Tensor | Sequence[Keys] | None


class Drafter(Protocol):
    """Guesses tokens that come next, for nothing or nearly so."""

    def propose(self, tokens: Int[Tensor, " n"], count: int) -> Int[Tensor, " k"]:
        """At most ``count`` tokens after ``tokens`` (the sequence so far, its begin included)."""
        ...


@runtime_checkable
class Observer(Protocol):
    """A drafter that looks at the network: at what foresaw the last token, before it is asked."""

    def observe(self, hidden: Float[Tensor, " d"]) -> None: ...


@dataclass(frozen=True)
class PreviousFrame:
    """Video stands still where nothing moves: the tokens of the previous latent frame at the same
    places. ``frame_tokens`` is the number of tokens in a frame."""

    frame_tokens: int

    def propose(self, tokens: Int[Tensor, " n"], count: int) -> Int[Tensor, " k"]:
        start = len(tokens) - self.frame_tokens
        return tokens[max(start, 0) : start + count] if start >= 0 else tokens[:0]


@dataclass
class DraftLength:
    """How many tokens to draft: as many as the drafts accepted lately make worth their cost.

    A draft adds ``cost`` of a pass, of which it saves one where it holds. When each holds with
    probability a, k drafts yield (1 - a^(k+1)) / (1 - a) tokens for 1 + k·cost. A pass without
    drafts teaches nothing, so that a moves back towards one half, and drafting is tried again.
    The choice looks at the past alone, so that the distribution stays what it is.
    """

    most: int = 16
    cost: float = 0.12
    memory: float = 0.9
    chance: float = 0.5

    def next(self) -> int:
        a = min(self.chance, 0.999)
        gains = [(1 - a ** (k + 1)) / (1 - a) / (1 + self.cost * k) for k in range(self.most + 1)]
        return gains.index(max(gains))

    def update(self, drafted: int, accepted: int) -> None:
        """``accepted`` of ``drafted`` held; the one after them did not, the others say nothing."""
        tried = min(accepted + 1, drafted)
        if not drafted:
            self.chance += 0.01 * (0.5 - self.chance)
            return
        keep = self.memory**tried
        self.chance = keep * self.chance + (1 - keep) * accepted / tried


@dataclass
class Statistics:
    """``passes`` of the network after the prompt; ``accepted`` drafts of ``drafted``, in order."""

    passes: int = 0
    drafted: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)


@torch.no_grad()
def generate_tokens(
    network: Transformer,
    prompt: Int[Tensor, "b n"],
    count: int,
    sampler: SamplerConfig,
    *,
    context: Context = None,
    generator: torch.Generator | None = None,
    decoding: DecodingConfig | None = None,
) -> Int[Tensor, "b m"]:
    """``count`` tokens after ``prompt``, which begins with the begin of video where there is one.

    Raises ValueError for ids out of range and sequences longer than ``net.grid``.
    """
    steps = stream_tokens(
        network, prompt, count, sampler, context=context, generator=generator, decoding=decoding
    )
    return torch.stack(list(steps), dim=1)


@torch.no_grad()
def stream_tokens(
    network: Transformer,
    prompt: Int[Tensor, "b n"],
    count: int,
    sampler: SamplerConfig,
    *,
    context: Context = None,
    generator: torch.Generator | None = None,
    decoding: DecodingConfig | None = None,
) -> Iterator[Int[Tensor, " b"]]:
    """The tokens of `generate_tokens`, each as soon as it is drawn."""
    decoder, keys, cache = _start(network, prompt, count, context, decoding)
    step = prompt
    for _ in range(count):
        hidden = decoder.hidden(step, context=keys, cache=cache)
        token = choose(decoder.logits(hidden, last_only=True)[:, -1], sampler, generator)
        yield token
        step = token[:, None]


@torch.no_grad()
def speculate_tokens(
    network: Transformer,
    prompt: Int[Tensor, "1 n"],
    count: int,
    sampler: SamplerConfig,
    drafter: Drafter,
    *,
    num_drafts: int | DraftLength = 8,
    context: Context = None,
    generator: torch.Generator | None = None,
    statistics: Statistics | None = None,
    decoding: DecodingConfig | None = None,
) -> Int[Tensor, "1 m"]:
    """As `generate_tokens` of one sequence, in fewer passes; equal in distribution, and token for
    token when greedy. A pass checks ``num_drafts`` proposed tokens at once, or as many as the
    given `DraftLength` says."""
    if prompt.shape[0] != 1:
        raise ValueError(f"prompt: {prompt.shape[0]} sequences: speculation takes one")
    if isinstance(num_drafts, int) and num_drafts < 1:
        raise ValueError(f"num_drafts={num_drafts}: must be at least 1")
    statistics = Statistics() if statistics is None else statistics
    decoder, keys, cache = _start(network, prompt, count, context, decoding)
    sequence = torch.empty(prompt.shape[1] + count, dtype=torch.long, device=prompt.device)
    end = prompt.shape[1]
    sequence[:end] = prompt[0]
    hidden = decoder.hidden(prompt, context=keys, cache=cache)
    logits = decoder.logits(hidden, last_only=True)[0, -1]
    seen = hidden[0, -1]
    sequence[end] = choose(logits, sampler, generator)
    end += 1
    while end < len(sequence):
        wanted = num_drafts.next() if isinstance(num_drafts, DraftLength) else num_drafts
        room = min(wanted, len(sequence) - end - 1)
        if room and isinstance(drafter, Observer):
            drafter.observe(seen)
        drafts = drafter.propose(sequence[:end], room) if room else sequence[:0]
        step = torch.cat((sequence[end - 1 : end], drafts))
        hidden = decoder.hidden(step[None], context=keys, cache=cache)
        logits = decoder.logits(hidden)[0]
        accepted, token = accept_drafts(probabilities(logits, sampler), drafts, None, generator)
        cache.rewind(end + accepted)
        seen = hidden[0, accepted]
        sequence[end : end + accepted] = drafts[:accepted]
        sequence[end + accepted] = token
        end += accepted + 1
        if isinstance(num_drafts, DraftLength):
            num_drafts.update(len(drafts), accepted)
        statistics.passes += 1
        statistics.drafted.append(len(drafts))
        statistics.accepted.append(accepted)
    return sequence[None, prompt.shape[1] :]


def _start(
    network: Transformer,
    prompt: Int[Tensor, "b n"],
    count: int,
    context: Context,
    decoding: DecodingConfig | None,
) -> tuple[Decoder, Sequence[Keys] | None, KeyValueCache]:
    """A decoder, constant keys of the context, and a cache just large enough."""
    config = network.config
    if count < 1:
        raise ValueError(f"count={count}: must be at least 1")
    total = prompt.shape[1] + count
    if total > config.max_tokens:
        raise ValueError(
            f"prompt and count: {total} tokens: must be at most {config.max_tokens}, of "
            f"net.grid={config.grid}"
        )
    check_tokens(prompt, config)
    if isinstance(context, Tensor):
        context = network.context_keys(context)
    weight = network.embed.weight
    cache = KeyValueCache(
        config,
        batch=prompt.shape[0],
        capacity=total,
        dtype=weight.dtype,
        device=weight.device,
    )
    return decoder_for(network, decoding), context, cache
