"""Rotary position embedding over time, rows and columns (arXiv 2501.03575, section 5.1.2).

The rotation is of the half-split kind: channel j is paired with channel j + d/2. A head's angles
are laid out as [time | rows | columns], twice. Angles are fp32. The released code casts its buffers
to bf16, so its angles carry the rounding of every operation: up to 0.148 rad on a grid of 16x44x80.
``dtype=torch.bfloat16`` repeats that, operation by operation, for weights that were trained so.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that time, rows and columns get: (44, 42, 42) for a head of 128."""
    if head_dim % 2 or head_dim < 16:
        raise ValueError(f"head_dim={head_dim}: must be even and at least 16 (three rotary axes)")
    space = head_dim // 6 * 2
    return head_dim - 2 * space, space, space


def axis_theta(dim: int, ratio: float) -> float:
    """Base of the frequencies, NTK-extended by ``ratio``: 20671.16 for dim 44 and ratio 2."""
    return 10000.0 * float(ratio) ** (dim / (dim - 2))


def axis_frequencies(
    dim: int, ratio: float, dtype: torch.dtype = torch.float32
) -> Float[Tensor, " half"]:
    """theta^(-2j/dim) for j = 0 .. dim/2 - 1; in bf16 with the released code's roundings."""
    if dtype == torch.bfloat16:
        rounded = (torch.arange(0, dim, 2, dtype=torch.float32) / dim).to(dtype)
        return 1.0 / (axis_theta(dim, ratio) ** rounded)  # torch rounds the base to bf16 too
    exponent = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    return (axis_theta(dim, ratio) ** -exponent).float()


def axis_positions(
    grid: tuple[int, int, int],
    fps: Float[Tensor, " b"] | None,
    base_fps: float,
    dtype: torch.dtype,
    device: torch.device | str,
) -> list[Float[Tensor, "b axis"]]:
    """Positions along time (one row a frame rate), rows and columns, in ``dtype``."""
    positions = [torch.arange(size, device=device).to(dtype)[None] for size in grid]
    if fps is not None and dtype == torch.bfloat16:
        positions[0] = positions[0] / fps.to(dtype)[:, None] * base_fps  # the release's order
    elif fps is not None:
        positions[0] = positions[0] * (base_fps / fps.float())[:, None]
    return positions


def rotary_table(
    grid: tuple[int, int, int],
    head_dim: int,
    *,
    ratios: tuple[float, float, float],
    fps: Float[Tensor, " b"] | None,
    base_fps: float,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
    """Cosines, and sines signed for :func:`rotate`; the leading axis is 1 when ``fps`` is None.

    Positions in space count patches; positions in time are latent frames times base_fps / fps, so
    that equal durations get equal angles. The result is fp32 whatever ``dtype`` computes the
    angles.
    """
    dims = axis_dims(head_dim)
    positions = axis_positions(grid, fps, base_fps, dtype, device)
    parts = []
    for axis, (position, dim, ratio) in enumerate(zip(positions, dims, ratios, strict=True)):
        angle = position[..., None] * axis_frequencies(dim, ratio, dtype).to(device)
        shape = [len(positions[0]), 1, 1, 1, dim // 2]
        shape[axis + 1] = grid[axis]
        parts.append(angle.expand(shape[0], -1, -1).view(shape).expand(shape[0], *grid, -1))
    half = torch.cat(parts, dim=-1).flatten(1, 3).float()
    sin = half.sin()
    return half.cos().repeat(1, 1, 2), torch.cat((-sin, sin), dim=-1)


def rotate(
    x: Float[Tensor, "b n h d"], cos: Float[Tensor, "#b n d"], sin: Float[Tensor, "#b n d"]
) -> Float[Tensor, "b n h d"]:
    """Rotate every head by its token's angles; computed in fp32, returned in x's dtype."""
    wide = x.float()
    swapped = wide.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(wide * cos.unsqueeze(2), swapped, sin.unsqueeze(2)).to(x.dtype)
