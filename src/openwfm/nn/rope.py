"""Rotary position embedding over time, rows and columns, in fp32 (arXiv 2501.03575, section 5.1.2).

The rotation is of the half-split kind: channel j is paired with channel j + d/2. A head's angles
are laid out as [time | rows | columns], twice.
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


def axis_frequencies(dim: int, ratio: float) -> Float[Tensor, " half"]:
    """theta^(-2j/dim) for j = 0 .. dim/2 - 1."""
    exponent = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    return (axis_theta(dim, ratio) ** -exponent).float()


def rotary_table(
    grid: tuple[int, int, int],
    head_dim: int,
    *,
    ratios: tuple[float, float, float],
    fps: Float[Tensor, " b"] | None,
    base_fps: float,
    device: torch.device | str = "cpu",
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
    """Cosines, and sines signed for :func:`rotate`; the leading axis is 1 when ``fps`` is None.

    Positions in space count patches; positions in time are latent frames times base_fps / fps, so
    that equal durations get equal angles.
    """
    dims = axis_dims(head_dim)
    positions = [torch.arange(size, dtype=torch.float32, device=device)[None] for size in grid]
    if fps is not None:
        positions[0] = positions[0] * (base_fps / fps.float())[:, None]
    parts = []
    for axis, (position, dim, ratio) in enumerate(zip(positions, dims, ratios, strict=True)):
        angle = position[..., None] * axis_frequencies(dim, ratio).to(device)
        shape = [len(positions[0]), 1, 1, 1, dim // 2]
        shape[axis + 1] = grid[axis]
        parts.append(angle.expand(shape[0], -1, -1).view(shape).expand(shape[0], *grid, -1))
    half = torch.cat(parts, dim=-1).flatten(1, 3)
    sin = half.sin()
    return half.cos().repeat(1, 1, 2), torch.cat((-sin, sin), dim=-1)


def rotate(
    x: Float[Tensor, "b n h d"], cos: Float[Tensor, "#b n d"], sin: Float[Tensor, "#b n d"]
) -> Float[Tensor, "b n h d"]:
    """Rotate every head by its token's angles; computed in fp32, returned in x's dtype."""
    wide = x.float()
    swapped = wide.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(wide * cos.unsqueeze(2), swapped, sin.unsqueeze(2)).to(x.dtype)
