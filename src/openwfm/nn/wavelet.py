"""Causal Haar transform of clips (or of images) as one small matrix product per cell.

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


def haar_signs(patch_size: int, *, image: bool = False) -> Float[Tensor, "bands pixels"]:
    """Signs of the pixels of a cell, ``(t h w)`` with w fastest, in each band.

    Bands are ordered by the last level first: (t h w) bits of it, then those of the level before.
    With ``image``, cells are ``(h w)`` and the bits of a level (w h), as the release has them.
    """
    levels = patch_size.bit_length() - 1
    assert patch_size == 2**levels, patch_size
    axes = (1, 0) if image else (0, 1, 2)  # where t, h, w (or h, w) stand in the bits of a level
    size = patch_size ** len(axes)
    bits = hadamard(size).reshape(-1, *([2] * len(axes) * levels))
    order = [1 + len(axes) * level + axis for axis in axes for level in range(levels)]
    return bits.permute(0, *order).reshape(size, size)


def haar_forward(
    video: Float[Tensor, "b c t h w"], patch_size: int, *, image: bool = False, start: bool = True
) -> Float[Tensor, "b f y x d"]:
    """Bands of ``video``, channels last: d = patch_size³·c, band-major.

    The first frame is repeated to fill a patch of its own, so t must be 1 + patch_size·n and
    f = 1 + n; h and w are multiples of ``patch_size``. A constant clip of value v gives v in the
    first c channels and 0 elsewhere. Frames that continue a clip (``start`` False) are patch_size·n
    and become n. With ``image`` frames stay apart: f = t and d = patch_size²·c.
    """
    cells = to_cells(video, patch_size, image=image, start=start).flatten(5)
    signs = haar_signs(patch_size, image=image).to(video)
    bands = F.linear(cells, signs / len(signs))
    return rearrange(bands, "b t h w c k -> b t h w (k c)")


def haar_inverse(
    bands: Float[Tensor, "b f y x d"], patch_size: int, *, image: bool = False, start: bool = True
) -> Float[Tensor, "b c t h w"]:
    """Inverse of :func:`haar_forward`; t = 1 + patch_size·(f - 1) where the bands start a clip."""
    signs = haar_signs(patch_size, image=image).to(bands)
    # Contiguous, because linear turns a transposed input into thousands of 3x64 products.
    values = rearrange(bands, "b t h w (k c) -> b t h w c k", k=len(signs)).contiguous()
    return from_cells(F.linear(values, signs.T), patch_size, image=image, start=start)


def to_cells(
    video: Float[Tensor, "b c t h w"], patch_size: int, *, image: bool, start: bool
) -> Float[Tensor, "b f y x c p q r"]:
    """Pixels by cell, contiguous; the first frame fills a cell of its own where it starts a clip.

    Cells are ``patch_size`` pixels high and wide, and as deep, or of one frame with ``image``.
    """
    p, depth = patch_size, 1 if image else patch_size
    parts = []
    if start:
        first = rearrange(video[:, :, :1], "b c 1 (h q) (w r) -> b 1 h w c 1 q r", q=p, r=p)
        parts, video = [first.expand(-1, -1, -1, -1, -1, depth, -1, -1)], video[:, :, 1:]
    pattern = "b c (t p) (h q) (w r) -> b t h w c p q r"
    return torch.cat((*parts, rearrange(video, pattern, p=depth, q=p, r=p)), 1)


def from_cells(
    cells: Float[Tensor, "b f y x c pqr"], patch_size: int, *, image: bool, start: bool
) -> Float[Tensor, "b c t h w"]:
    """Inverse of :func:`to_cells`."""
    p, depth = patch_size, 1 if image else patch_size
    pattern = "b t h w c (p q r) -> b c (t p) (h q) (w r)"
    video = rearrange(cells, pattern, p=depth, q=p, r=p)
    return video[:, :, depth - 1 :] if start else video
