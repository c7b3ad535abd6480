"""Finite scalar quantisation: every latent channel is rounded to one of a few values.

Source: arXiv 2309.15505, appendix A, with the constants of the release of arXiv 2501.03575.
Channels come last; indices are mixed-radix numbers whose first channel is the fastest digit. All
arithmetic is fp32 at least, whatever the input's type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

SLACK = 1e-3  # room beyond the outermost values, so that tanh can reach them


def fsq_codes(z: Float[Tensor, "*n d"], levels: Sequence[int]) -> Float[Tensor, "*n d"]:
    """Nearest codes, in [-1, 1], of features of any size; gradients pass the rounding unchanged.

    With L levels a channel becomes round(tanh(z + shift)·(L - 1)(1 + SLACK)/2 - offset) / (L // 2),
    where offset is half a step for even L and ``shift`` undoes it at 0.
    """
    values = z if z.dtype == torch.float64 else z.float()
    counts = values.new_tensor(list(levels))
    half = (counts - 1) * (1 + SLACK) / 2
    offset = 0.5 * (1 - counts % 2)
    bounded = torch.tanh(values + torch.atanh(offset / half)) * half - offset
    # In this order the sum is the rounded value exactly, and the gradient that of `bounded`.
    rounded = bounded.round().detach() + (bounded - bounded.detach())
    return (rounded / (counts // 2)).to(z.dtype)


def codes_to_indices(codes: Float[Tensor, "*n d"], levels: Sequence[int]) -> Int[Tensor, "*n"]:
    """int32 indices, 0 to prod(levels) - 1, of codes that `fsq_codes` made."""
    half = torch.tensor([count // 2 for count in levels], device=codes.device)
    digits = (codes.float() * half).round().int() + half.int()
    return (digits * _basis(levels, codes.device)).sum(-1, dtype=torch.int32)


def indices_to_codes(indices: Int[Tensor, "*n"], levels: Sequence[int]) -> Float[Tensor, "*n d"]:
    """fp32 codes of indices; the inverse of `codes_to_indices`."""
    sizes = torch.tensor(list(levels), device=indices.device)
    digits = indices[..., None] // _basis(levels, indices.device) % sizes
    return (digits - sizes // 2).float() / (sizes // 2)


def code_histogram(indices: Int[Tensor, "*n"], num_codes: int) -> Int[Tensor, " num_codes"]:
    """How often each code occurs; histograms of batches add up."""
    return torch.bincount(indices.flatten(), minlength=num_codes)


def code_usage(histogram: Int[Tensor, " num_codes"]) -> Float[Tensor, ""]:
    """Share of the codes that occur at all."""
    return (histogram > 0).float().mean()


def perplexity(histogram: Int[Tensor, " num_codes"]) -> Float[Tensor, ""]:
    """exp(entropy) of the codes: num_codes when all are equally frequent, 1 for one alone."""
    share = histogram.double() / histogram.sum()
    return torch.special.entr(share).sum().exp().float()


def _basis(levels: Sequence[int], device: torch.device) -> Int[Tensor, " d"]:
    strides = [math.prod(levels[:i]) for i in range(len(levels))]
    return torch.tensor(strides, dtype=torch.int32, device=device)
