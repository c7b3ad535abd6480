"""Adaptive layer norm with a low-rank head: how the noise level reaches every sub-block.

arXiv 2501.03575, section 5.1.2 (AdaLN-LoRA). The full-rank part is computed once per call from the
noise level and shared by all sub-blocks; each sub-block adds its own low-rank part.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-6


def sinusoid(level: Float[Tensor, " b"], width: int) -> Float[Tensor, "b d"]:
    """[cos | sin] of ``level`` times width/2 geometric frequencies from 1 down to 1/10000; fp32."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=level.device) / half
    angle = level.float()[:, None] * torch.exp(-math.log(10000.0) * exponent)
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


class NoiseLevelEmbedding(nn.Module):
    """Noise level to (embedding, shared modulation)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, width, bias=False)
        self.linear_2 = nn.Linear(width, 3 * width, bias=False)
        self.norm = nn.RMSNorm(width, eps=EPSILON)

    def forward(
        self, level: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b 3*d"]]:
        """The embedding is the normalised *raw* sinusoid; the MLP feeds only the modulation."""
        raw = sinusoid(level, self.width).to(self.linear_1.weight.dtype)
        return self.norm(raw), self.linear_2(F.silu(self.linear_1(raw)))


def add_modulation(
    level: tuple[Float[Tensor, "b d"], Float[Tensor, "b 3*d"]], port: Float[Tensor, "#b 4*d"] | None
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b 3*d"]]:
    """(embedding, shared modulation) plus the two parts of the ``modulation`` port.

    The release's action embedder has both parts too, but drops the first (its branch is dead).
    Raises ValueError for a port of another width.
    """
    if port is None:
        return level
    embedding, shared = level
    width = embedding.shape[1]
    if port.ndim != 2 or port.shape[1] != 4 * width:
        raise ValueError(
            f"modulation: shape {tuple(port.shape)}: must be (batch, {4 * width}), width + 3·width"
        )
    return embedding + port[:, :width], shared + port[:, width:]


class LowRankModulation(nn.Module):
    """One sub-block's shift, scale (and gate): up(down(silu(embedding))) + shared."""

    def __init__(self, width: int, rank: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, parts * width, bias=False)

    def forward(
        self, activated: Float[Tensor, "b d"], shared: Float[Tensor, "b 3*d"]
    ) -> tuple[Float[Tensor, "b 1 d"], ...]:
        """``activated`` is silu(embedding); it is the same for all sub-blocks, so computed once."""
        low = self.up(self.down(activated))
        return (low + shared[:, : low.shape[1]]).unsqueeze(1).chunk(self.parts, dim=-1)


def modulated_norm(
    x: Float[Tensor, "b n d"], shift: Float[Tensor, "#b 1 d"], scale: Float[Tensor, "#b 1 d"]
) -> Float[Tensor, "b n d"]:
    """LayerNorm(x)·(1 + scale) + shift.

    One modulation for the whole batch (sampling: all samples share a noise level) is handed to
    LayerNorm as its weight and bias: exact, and 3.5 times cheaper here on 1280×512 tokens.
    """
    width = (x.shape[-1],)
    if len(scale) == 1:
        return F.layer_norm(x, width, 1 + scale[0, 0], shift[0, 0], EPSILON)
    return torch.addcmul(shift, F.layer_norm(x, width, eps=EPSILON), 1 + scale)
