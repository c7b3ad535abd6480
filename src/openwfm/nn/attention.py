"""Self- and cross-attention with per-head RMS-normalised queries and keys, without biases."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openwfm.nn.heads import EPSILON, attention_heads, unit_heads

# Keys and values of a context, heads second, and an additive bias over the keys (or None).
Keys = tuple[Tensor, Tensor, Tensor | None]
# Those of each branch of guidance, None where a branch has no context.
BranchKeys = tuple[Keys | None, ...]


class SelfAttention(nn.Module):
    """``qkv`` stacks the three projections along its rows: queries, keys, values."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = nn.RMSNorm(width // num_heads, eps=EPSILON)
        self.k_norm = nn.RMSNorm(width // num_heads, eps=EPSILON)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotary: tuple[Float[Tensor, "#b n k"], Float[Tensor, "#b n k"]],
    ) -> Float[Tensor, "b n d"]:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        heads = attention_heads(qkv, self.q_norm.weight, self.k_norm.weight, rotary)
        mixed = attend(*heads, None, qkv.dtype)
        return self.out(rearrange(mixed, "b h n k -> b n (h k)"))


class CrossAttention(nn.Module):
    """Attention to context tokens. There is no mask: an all-zero token is a null sink.

    Without biases a zero token has key 0 and value 0, hence weight exp(0) and no content. Any
    number of them therefore equals one zero key with log(number) added to its logit: exact, and
    512 padded text tokens cost what the real ones cost. Groups of query heads may share a
    key-value head; None means as many as there are, and heads that fill the width.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        context_width: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        size = head_dim or width // num_heads
        self.q = nn.Linear(width, num_heads * size, bias=False)
        self.kv = nn.Linear(context_width, 2 * self.num_kv_heads * size, bias=False)
        self.q_norm = nn.RMSNorm(size, eps=epsilon)
        self.k_norm = nn.RMSNorm(size, eps=epsilon)
        self.out = nn.Linear(num_heads * size, width, bias=False)

    def keys(self, context: Float[Tensor, "b n d"], null_tokens: int) -> Keys:
        """Keys and values of ``context`` followed by ``null_tokens`` zero tokens."""
        k, v = self.kv(context).unflatten(-1, (2, self.num_kv_heads, -1)).unbind(2)
        k, v = self._heads(k, self.k_norm).to(k.dtype), v.transpose(1, 2)
        if not null_tokens:
            return k, v, None
        bias = k.new_zeros(1, 1, 1, k.shape[2] + 1)
        bias[..., -1] = math.log(null_tokens)
        return F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1)), bias

    def forward(self, x: Float[Tensor, "b n d"], keys: Keys) -> Float[Tensor, "b n d"]:
        k, v, bias = keys
        q = self.q(x).unflatten(-1, (self.num_heads, -1))
        shared = self.num_heads != self.num_kv_heads
        mixed = attend(self._heads(q, self.q_norm), k, v, bias, q.dtype, shared=shared)
        return self.out(rearrange(mixed, "b h n k -> b n (h k)"))

    def _heads(self, x: Float[Tensor, "b n h k"], norm: nn.RMSNorm) -> Float[Tensor, "b h n k"]:
        if norm.eps != EPSILON:
            return cast(Tensor, norm(x)).transpose(1, 2)
        return unit_heads(x, norm.weight)


def attend(
    q: Float[Tensor, "b h n k"],
    k: Float[Tensor, "#b g m k"],
    v: Float[Tensor, "#b g m k"],
    bias: Tensor | None,
    dtype: torch.dtype,
    *,
    shared: bool = False,
) -> Float[Tensor, "b h n k"]:
    """Softmax attention, computed in ``dtype``, but on a CPU in fp32 at least.

    There autocast to bf16 makes the backward pass of attention over 48 tokens eight times slower,
    and it alone a third of a training step.
    """
    device = q.device.type
    if device == "cpu" and dtype != torch.float64:
        dtype = torch.float32
    parts = (part.to(dtype) for part in (q, k, v))
    mask = None if bias is None else bias.to(dtype)
    with torch.autocast(device, enabled=False):
        return F.scaled_dot_product_attention(*parts, attn_mask=mask, enable_gqa=shared)


def split_rows(weight: Float[Tensor, "m d"], parts: int) -> tuple[Tensor, ...]:
    """The separate projections of a stacked one (views)."""
    return torch.chunk(weight, parts, dim=0)
