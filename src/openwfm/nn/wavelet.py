"""Causal three-dimensional Haar transform as one small matrix product per cell.

Each level splits 2×2×2 cells into 8 bands and is applied to every channel of the level before, so
that ``patch_size`` = 2^levels turns c channels into c·patch_size³. A band is the mean over the cell
of (-1)^(bits of band · bits of position) · x; over all levels these signs are a Sylvester-Hadamard
matrix, its own inverse up to a scale.
Source: arXiv 2501.03575, section 4.1 (wavelet space), and the channel order of its release.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def hadamard(order: int) -> Float[Tensor, "order order"]:
    """Sylvester-Hadamard matrix: entry (i, j) is (-1)^popcount(i & j); ``order`` a power of two."""
    assert order > 0 and order & (order - 1) == 0, order
    matrix = torch.ones(1, 1)
    while len(matrix) < order:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    return matrix


def haar_signs(patch_size: int) -> Float[Tensor, "bands pixels"]:
    """Signs of the pixels of a cell, ``(t h w)`` with w fastest, in each band.

    Bands are ordered by the last level first: (t h w) bits of it, then those of the level before.
    """
    levels = patch_size.bit_length() - 1
    assert patch_size == 2**levels, patch_size
    bits = hadamard(patch_size**3).reshape(-1, *([2] * 3 * levels))
    order = [1 + 3 * level + axis for axis in range(3) for level in range(levels)]
    return bits.permute(0, *order).reshape(patch_size**3, patch_size**3)


def haar_forward(video: Float[Tensor, "b c t h w"], patch_size: int) -> Float[Tensor, "b f y x d"]:
    """Bands of ``video``, channels last: d = patch_size³·c, band-major.

    The first frame is repeated to fill a patch of its own, so t must be 1 + patch_size·n and
    f = 1 + n; h and w are multiples of ``patch_size``. A constant clip of value v gives v in the
    first c channels and 0 elsewhere.
    """
    p = patch_size
    video = torch.cat((video[:, :, :1].expand(-1, -1, p - 1, -1, -1), video), 2)
    cells = rearrange(video, "b c (t p) (h q) (w r) -> b t h w c (p q r)", p=p, q=p, r=p)
    bands = F.linear(cells, haar_signs(p).to(video) / p**3)
    return rearrange(bands, "b t h w c k -> b t h w (k c)")


def haar_inverse(bands: Float[Tensor, "b f y x d"], patch_size: int) -> Float[Tensor, "b c t h w"]:
    """Inverse of :func:`haar_forward`; t = 1 + patch_size·(f - 1)."""
    p = patch_size
    # Contiguous, because linear turns a transposed input into thousands of 3x64 products.
    values = rearrange(bands, "b t h w (k c) -> b t h w c k", k=p**3).contiguous()
    cells = F.linear(values, haar_signs(p).to(bands).T)
    video = rearrange(cells, "b t h w c (p q r) -> b c (t p) (h q) (w r)", p=p, q=p, r=p)
    return video[:, :, p - 1 :]
