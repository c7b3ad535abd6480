"""Absolute positions that are added before every block: learnable tables, or fixed waves."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

Grid = tuple[int, int, int]


class PositionTables(nn.Module):
    """Learnable, normalised to unit RMS, cropped from index 0 and never interpolated."""

    def __init__(self, sizes: Grid, width: int) -> None:
        super().__init__()
        self.t, self.h, self.w = (nn.Parameter(torch.empty(size, width)) for size in sizes)

    def forward(self, grid: Grid) -> Float[Tensor, "n d"]:
        t, h, w = grid
        table = self.t[:t, None, None] + self.h[None, :h, None] + self.w[None, None, :w]
        norm = torch.linalg.vector_norm(table, dim=-1, keepdim=True, dtype=torch.float32)
        scaled = norm / math.sqrt(table.shape[-1]) + 1e-6
        return (table / scaled.to(table.dtype)).flatten(0, 2)


class PositionWaves(nn.Module):
    """[sin | cos] of the time, the row and the column, side by side; no parameters, unnormalised.

    Rows and columns have 2·(d // 6) channels each, time the rest; frequencies fall from 1 to
    1/10000. What the released multi-view networks use; computed in fp64 as there.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        space = width // 6 * 2
        self.dims = (width - 2 * space, space, space)
        # Gives device and dtype, also after .to(); holds nothing.
        self.register_buffer("like", torch.empty(0), persistent=False)

    like: Tensor

    def forward(self, grid: Grid) -> Float[Tensor, "n d"]:
        parts = []
        for axis, (size, dim) in enumerate(zip(grid, self.dims, strict=True)):
            exponent = torch.arange(dim // 2, dtype=torch.float64) / (dim / 2)
            angle = torch.outer(torch.arange(size, dtype=torch.float64), 10000.0**-exponent)
            shape = [1, 1, 1, dim]
            shape[axis] = size
            parts.append(torch.cat((angle.sin(), angle.cos()), 1).view(shape).expand(*grid, dim))
        return torch.cat(parts, dim=-1).flatten(0, 2).to(self.like.device, self.like.dtype)
