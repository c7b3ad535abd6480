"""Heads that foresee further tokens, so that one pass of the network can check several.

Source: arXiv 2501.03575, section 5.2.5, after Medusa (arXiv 2401.10774): each head is one layer
with SiLU and a residual connection on what enters the unembedding, all share the unembedding, their
matrices are one product, and there is no tree of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.autoregressive.generate import Statistics
from openwfm.autoregressive.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class MedusaConfig:
    """``num_heads`` foresee the tokens 2, 3, … ahead (the paper chose 9).

    In training head k of 1, 2, … weighs ``weight``·``decay``^k beside the network's own loss, and
    of the network only the last ``unfrozen_layers`` layers, the norm and the unembedding learn
    (None: all of it). For the first ``warmup_steps`` heads teach nothing but themselves: untrained
    ones would spoil what lies below (ours, after Medusa-2).
    """

    num_heads: int = 9
    decay: float = 0.8
    weight: float = 0.2
    warmup_steps: int = 0
    unfrozen_layers: int | None = 2

    def __post_init__(self) -> None:
        if self.num_heads < 1:
            raise ValueError(f"medusa.num_heads={self.num_heads}: must be at least 1")
        if not self.weight > 0:
            raise ValueError(f"medusa.weight={self.weight}: must be positive")
        if self.warmup_steps < 0:
            raise ValueError(f"medusa.warmup_steps={self.warmup_steps}: must be at least 0")
        if not 0 < self.decay <= 1:
            raise ValueError(f"medusa.decay={self.decay}: must be in (0, 1]")
        if self.unfrozen_layers is not None and self.unfrozen_layers < 0:
            raise ValueError(
                f"medusa.unfrozen_layers={self.unfrozen_layers}: must be at least 0, or null"
            )


class MedusaHeads(nn.Module):
    """Every head begins as the identity: it foresees what the network foresees for the next."""

    def __init__(self, width: int, config: MedusaConfig) -> None:
        super().__init__()
        self.config = config
        self.merged = nn.Linear(width, config.num_heads * width, bias=False)
        nn.init.zeros_(self.merged.weight)

    def forward(self, hidden: Float[Tensor, "*b d"], count: int | None = None) -> Tensor:
        """What the first ``count`` heads (None: all) give to the unembedding, ``*b k d``."""
        count = self.config.num_heads if count is None else count
        width = hidden.shape[-1]
        out = F.linear(hidden, self.merged.weight[: count * width]).unflatten(-1, (count, width))
        return hidden.unsqueeze(-2) + F.silu(out)


@dataclass(frozen=True)
class MedusaLoss:
    """``loss`` is the weighted sum over heads; ``accuracy`` that of each, NaN where nothing was
    counted."""

    loss: Float[Tensor, ""]
    accuracy: Float[Tensor, " k"]


def medusa_loss(
    heads: MedusaHeads,
    network: Transformer,
    hidden: Float[Tensor, "b m d"],
    tokens: Int[Tensor, "b n"],
    counted: Bool[Tensor, "b n"],
    *,
    alone: bool = False,
) -> MedusaLoss:
    """Cross-entropy of every head on counted targets; ``hidden`` foresees the last m tokens.

    ``alone``: gradients reach the heads only. Raises ValueError when the clip is too short for the
    first head.
    """
    foreseen = hidden.shape[1]
    targets, used = tokens[:, -foreseen:].long(), counted[:, -foreseen:]
    if foreseen < 2 or not bool(used[:, 1:].any()):
        raise ValueError(f"medusa: nothing is two ahead in clips of {tokens.shape[1]} tokens")
    total = hidden.new_zeros((), dtype=torch.float32)
    found, config = [], heads.config
    width, unembed = hidden.shape[-1], network.unembed.weight
    if alone:
        hidden, unembed = hidden.detach(), unembed.detach()
    for head in range(config.num_heads):
        ahead = head + 1
        counts = used[:, ahead:]
        if not bool(counts.any()):
            found.append(total.new_tensor(torch.nan))
            continue
        seen = hidden[:, : foreseen - ahead][counts]
        matrix = heads.merged.weight[head * width : (head + 1) * width]
        logits = F.linear(seen + F.silu(F.linear(seen, matrix)), unembed).float()
        wanted = targets[:, ahead:][counts]
        total = total + config.weight * config.decay**ahead * F.cross_entropy(logits, wanted)
        found.append((logits.argmax(-1) == wanted).float().mean())
    return MedusaLoss(total, torch.stack(found).detach())


class MedusaDrafter:
    """Proposes the likeliest token of each head, after what the network last saw.

    `openwfm.autoregressive.generate.speculate_tokens` shows it that (``observe``).
    """

    def __init__(self, heads: MedusaHeads, network: Transformer) -> None:
        self.heads, self.network = heads, network
        self._hidden: Tensor | None = None

    def observe(self, hidden: Float[Tensor, " d"]) -> None:
        self._hidden = hidden

    def propose(self, tokens: Int[Tensor, " n"], count: int) -> Int[Tensor, " k"]:
        assert self._hidden is not None, "observe comes before propose"
        ahead = self.heads(self._hidden, min(count, self.heads.config.num_heads))
        drafts: Tensor = self.network.logits(ahead[None])[0].argmax(-1)
        return drafts


def freeze_below(network: Transformer, config: MedusaConfig) -> None:
    """Gradients for the last layers, the norm and the unembedding alone."""
    if config.unfrozen_layers is None:
        return
    if config.unfrozen_layers > len(network.layers):
        raise ValueError(
            f"medusa.unfrozen_layers={config.unfrozen_layers}: must be at most "
            f"net.num_layers={len(network.layers)}"
        )
    network.requires_grad_(False)
    first = len(network.layers) - config.unfrozen_layers
    for module in (*network.layers[first:], network.norm, network.unembed):
        module.requires_grad_(True)


def accepted_places(statistics: Statistics, count: int) -> Bool[Tensor, " n"]:
    """Which of ``count`` tokens that `speculate_tokens` made were drafts that held."""
    places = torch.zeros(count, dtype=torch.bool)
    at = 1  # the first comes with the prompt
    for accepted in statistics.accepted:
        places[at : at + accepted] = True
        at += accepted + 1
    return places
