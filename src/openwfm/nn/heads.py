"""Queries and keys normalised and rotated, with a backward pass written by hand.

Autograd keeps five tensors a head and takes some twenty-five passes over memory for RMS
normalisation and rotation; here the projection alone is kept, and there are ten passes. All is
computed in fp32 (or fp64), whatever the projection's dtype.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-6
# Cosines and signed sines (`openwfm.nn.rope`), or None: no rotation.
Turn = tuple[Float[Tensor, "#b n 1 k"], Float[Tensor, "#b n 1 k"]] | None


def attention_heads(
    qkv: Float[Tensor, "b n 3 h k"],
    q_weight: Float[Tensor, " k"],
    k_weight: Float[Tensor, " k"],
    rotary: tuple[Float[Tensor, "#b n k"], Float[Tensor, "#b n k"]],
) -> tuple[Float[Tensor, "b h n k"], Float[Tensor, "b h n k"], Float[Tensor, "b h n k"]]:
    """``rotate(rms_norm(q)), rotate(rms_norm(k)), v``, each contiguous, in fp32 or fp64."""
    cos, sin = (table.unsqueeze(2) for table in rotary)
    q, k, v = _Heads.apply(qkv, q_weight, k_weight, cos, sin)  # type: ignore[no-untyped-call]
    return q, k, v


def unit(x: Float[Tensor, "*n k"]) -> Float[Tensor, "*n k"]:
    """RMS normalisation without weight, in fp32 at least."""
    wide = _wide(x)
    return wide * _scale(wide)


def unit_heads(
    x: Float[Tensor, "b n h k"], weight: Float[Tensor, " k"]
) -> Float[Tensor, "b h n k"]:
    """``rms_norm(x)``, contiguous, in fp32 or fp64."""
    return _Unit.apply(x, weight)  # type: ignore[no-untyped-call,no-any-return]


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(qkv, q_weight, k_weight, cos, sin)
        memory = _memory(qkv, 3)
        for index, weight in enumerate((q_weight, k_weight)):
            _turned(qkv[:, :, index], weight, (cos, sin), memory[index].transpose(1, 2))
        memory[2].copy_(qkv[:, :, 2].transpose(1, 2))
        q, k, v = memory.unbind()
        return q, k, v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qkv, q_weight, k_weight, cos, sin = ctx.saved_tensors
        found, of_weights = torch.empty_like(qkv), []
        for index, weight in enumerate((q_weight, k_weight)):
            one, of_weight = _turned_back(
                grads[index].transpose(1, 2), qkv[:, :, index], weight, (cos, sin)
            )
            found[:, :, index] = one
            of_weights.append(of_weight)
        found[:, :, 2] = grads[2].transpose(1, 2)
        return found, *of_weights, None, None


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        memory = _memory(x.unsqueeze(2), 1)[0]
        _turned(x, weight, None, memory.transpose(1, 2))
        return memory

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        found, of_weight = _turned_back(grad.transpose(1, 2), x, weight, None)
        return found.to(x.dtype), of_weight


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _scale(x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.rsqrt(norm.square() / x.shape[-1] + EPSILON)


def _memory(parts: Float[Tensor, "b n p h k"], count: int) -> Float[Tensor, "p b h n k"]:
    b, n, _, heads, size = parts.shape
    dtype = torch.float64 if parts.dtype == torch.float64 else torch.float32
    return parts.new_empty(count, b, heads, n, size, dtype=dtype)


def _turned(x: Tensor, weight: Tensor, turn: Turn, out: Float[Tensor, "b n h k"]) -> None:
    wide, half = _wide(x), x.shape[-1] // 2
    scaled = (wide * _scale(wide)).mul_(weight)
    if turn is None:
        out.copy_(scaled)
        return
    cos, sin = turn
    torch.mul(scaled, cos, out=out)
    out[..., :half].addcmul_(scaled[..., half:], sin[..., :half])
    out[..., half:].addcmul_(scaled[..., :half], sin[..., half:])


def _turned_back(grad: Tensor, x: Tensor, weight: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the weight.

    With r = 1/rms, u = r·x and g the gradient of w·u (rotated back): of w it is Σ g·u, and of x
    r·(w·g - u·mean(w·g·u)).
    """
    wide, half, size = _wide(x), x.shape[-1] // 2, x.shape[-1]
    scale = _scale(wide)
    normed = wide * scale
    if turn is None:
        back = grad.clone(memory_format=torch.contiguous_format)
    else:
        cos, sin = turn
        back = torch.empty_like(normed)
        torch.mul(grad, cos, out=back)
        back[..., :half].addcmul_(grad[..., half:], sin[..., half:])
        back[..., half:].addcmul_(grad[..., :half], sin[..., :half])
    product = (back * normed).flatten(0, -2)
    of_weight = product.sum(0).to(weight.dtype)
    mean = (product @ weight.to(product.dtype) / size).view(*x.shape[:-1], 1)
    back.mul_(weight).addcmul_(normed, mean, value=-1).mul_(scale)
    return back, of_weight
