"""Weights in fewer bytes, for decoding: what a token costs is reading them.

Only matrices are stored so; embeddings, norms, the cache and all sums keep their precision.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def pack(weight: Float[Tensor, "m k"], precision: Precision) -> tuple[Tensor, Tensor | None]:
    """``weight`` in ``precision``, and for int8 the fp32 scale of every row.

    int8 is symmetric: a row's largest entry is at most 127 steps. Scales are such as bf16 holds
    exactly, rounded up, so that kernels may take them in either.
    """
    if precision == "fp32":
        return weight.detach().contiguous(), None
    if precision == "bf16":
        return weight.detach().to(torch.bfloat16).contiguous(), None
    largest = weight.detach().float().abs().amax(dim=1)
    scale = (largest / 127).clamp_min(torch.finfo(torch.float32).tiny)
    rounded = scale.bfloat16()
    up = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
    scale = torch.where(rounded.float() < scale, up, rounded).float()
    steps = (weight.detach().float() / scale[:, None]).round().clamp(-127, 127)
    return steps.to(torch.int8).contiguous(), scale


def unpack(data: Tensor, scale: Tensor | None) -> Float[Tensor, "m k"]:
    """The matrix that products with a packed one amount to, in fp32."""
    return data.float() if scale is None else data.float() * scale[:, None]


LARGEST_PANEL = 256


def panels(weight: Float[Tensor, "m k"]) -> Float[Tensor, "p k panel"]:
    """Rows in equal panels, transposed, filled up with zeros.

    A few tokens times a matrix takes a third to two thirds of the time that it takes by rows
    (measured: 8 tokens, 512 to 3072 and 4096, one and two threads, MKL 2024.2).
    """
    rows = weight.shape[0]
    count = -(-rows // LARGEST_PANEL)
    size = -(-rows // count)
    padded = torch.nn.functional.pad(weight.detach(), (0, 0, 0, count * size - rows))
    return padded.view(count, size, -1).transpose(1, 2).contiguous()


def by_panels(
    x: Float[Tensor, "n k"], weight: Float[Tensor, "p k panel"], rows: int
) -> Float[Tensor, "n m"]:
    """x times the transposed matrix of ``rows`` rows that `panels` split."""
    found = torch.bmm(x.expand(len(weight), -1, -1), weight)
    return found.transpose(0, 1).reshape(len(x), -1)[:, :rows]


def product(x: Float[Tensor, "n k"], data: Tensor, scale: Tensor | None) -> Float[Tensor, "n m"]:
    """x times the transpose of a packed matrix, in torch alone.

    In reduced precision activations are rounded to bf16 as well, which torch's kernels require.
    Where torch has none for int8 the weights are expanded first: the same result, no gain. Its
    kernel is private, and reads beyond matrices whose sizes do not fill its vectors (a segmentation
    fault at 27 columns, torch 2.13): others do not reach it.
    """
    if scale is None:
        return torch.nn.functional.linear(x.to(data.dtype), data).float()
    kernel = getattr(torch, "_weight_int8pack_mm", None)
    fits = data.shape[0] % 64 == 0 and data.shape[1] % 64 == 0
    if kernel is None or not fits or x.device.type != "cpu":
        return torch.nn.functional.linear(x, unpack(data, scale))
    return kernel(x.bfloat16(), data, scale.bfloat16()).float()
