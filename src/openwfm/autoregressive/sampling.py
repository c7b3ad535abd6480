"""Logits to tokens: temperature, top-k and top-p in fp32, and exact rejection of drafts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """``temperature`` 0 is greedy. ``top_k`` keeps the k likeliest tokens, ``top_p`` the fewest
    that together have that probability (at least one); both may be given, top-k comes first.

    The release's defaults: temperature 1, top_p 0.8.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = 0.8

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"sampler.temperature={self.temperature}: must be at least 0")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"sampler.top_k={self.top_k}: must be at least 1, or null")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"sampler.top_p={self.top_p}: must be in (0, 1], or null")


def probabilities(logits: Float[Tensor, "... v"], config: SamplerConfig) -> Float[Tensor, "... v"]:
    """What is drawn from, in fp32; greedy is all on the first of the likeliest."""
    logits = logits.float()
    if config.temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, best, 1.0)
    logits = logits / config.temperature
    if config.top_k is not None and config.top_k < logits.shape[-1]:
        least = logits.topk(config.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    found = logits.softmax(-1)
    if config.top_p is not None and config.top_p < 1:
        ordered, order = found.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        dropped = torch.zeros_like(found, dtype=torch.bool).scatter_(
            -1, order, before >= config.top_p
        )
        found = found.masked_fill(dropped, 0.0)
        found = found / found.sum(-1, keepdim=True)
    return found


def draw(
    probabilities: Float[Tensor, "... v"], generator: torch.Generator | None = None
) -> Int[Tensor, ...]:
    """One token each, by the exponential race argmax(p / e): no host sync."""
    noise = torch.empty_like(probabilities).exponential_(generator=generator)
    return (probabilities / noise).argmax(-1)


def choose(
    logits: Float[Tensor, "... v"], config: SamplerConfig, generator: torch.Generator | None = None
) -> Int[Tensor, ...]:
    """`draw` from `probabilities`; greedy needs neither."""
    if config.temperature == 0:
        return logits.argmax(-1)
    return draw(probabilities(logits, config), generator)


def accept_drafts(
    target: Float[Tensor, "k1 v"],
    drafted: Int[Tensor, " k"],
    proposal: Float[Tensor, "k v"] | None,
    generator: torch.Generator | None = None,
) -> tuple[int, Int[Tensor, ""]]:
    """How many of ``drafted`` tokens hold, and the token after them.

    ``target`` are the model's probabilities at each draft and after the last; ``proposal`` those
    that the drafts were drawn from, None for drafts that were not drawn (all on one token). A draft
    x holds with probability min(1, p(x) / q(x)); at the first that fails a token is drawn from
    max(0, p - q), else from the last row. The result has the distribution of drawing from the model
    one by one (arXiv 2211.17192, appendix A.1).
    """
    count = len(drafted)
    p = target[:count].gather(1, drafted[:, None])[:, 0]
    q = torch.ones_like(p) if proposal is None else proposal.gather(1, drafted[:, None])[:, 0]
    chance = torch.rand(count, generator=generator, device=target.device)
    held = chance * q < p
    accepted = int(held.long().cumprod(0).sum())
    rest = target[accepted]
    if accepted < count:
        other = (
            torch.zeros_like(rest).index_fill_(0, drafted[accepted], 1.0)
            if proposal is None
            else proposal[accepted]
        )
        rest = (rest - other).clamp_min(0)
        rest = rest / rest.sum()
    return accepted, draw(rest, generator)
