"""Causal three-dimensional Haar transform as one Hadamard product per cell.

Each level splits 2×2×2 cells into 8 bands and is applied to every channel of the level before, so
that ``patch_size`` = 2^levels turns c channels into c·patch_size³. A band is
``mean over the cell of (-1)^(bits of band · bits of position) · x``, and the bits of all levels
together are the indices of a Sylvester-Hadamard matrix, which is its own inverse up to a scale.
Source: arXiv 2501.03575, section 4.1 (wavelet space), and the channel order of its release.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def hadamard(
    order: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Float[Tensor, "order order"]:
    """Sylvester-Hadamard matrix: entry (i, j) is (-1)^popcount(i & j); ``order`` a power of two."""
    assert order > 0 and order & (order - 1) == 0, order
    matrix = torch.ones(1, 1, dtype=dtype, device=device)
    while len(matrix) < order:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)), 0)
    return matrix


def _pattern(patch_size: int, shape: tuple[int, int, int]) -> tuple[str, str, dict[str, int]]:
    """einops patterns of pixels and of cells, highest level first, and the sizes they need."""
    levels = range(patch_size.bit_length() - 1, 0, -1)
    inner = {axis: [f"{axis}{level}" for level in levels] for axis in "thw"}
    pixels = "b c " + " ".join(f"({axis} {' '.join(inner[axis])})" for axis in "thw")
    cells = " ".join(f"t{level} h{level} w{level}" for level in levels)
    sizes = {name: 2 for names in inner.values() for name in names}
    return pixels, cells, sizes | dict(zip("thw", shape, strict=True))


def haar_forward(
    video: Float[Tensor, "b c t h w"], patch_size: int
) -> Float[Tensor, "b f y x d"]:
    """Bands of ``video``, channels last: d = patch_size³·c, band-major, ``w`` varying fastest.

    The first frame is repeated to fill a patch of its own, so t must be 1 + patch_size·n and
    f = 1 + n; h and w are multiples of ``patch_size``. A constant clip of value v gives v in the
    first c channels and 0 elsewhere.
    """
    t, h, w = video.shape[2:]
    video = torch.cat((video[:, :, :1].expand(-1, -1, patch_size - 1, -1, -1), video), 2)
    shape = ((t + patch_size - 1) // patch_size, h // patch_size, w // patch_size)
    pixels, cells, sizes = _pattern(patch_size, shape)
    values = rearrange(video, f"{pixels} -> b t h w c ({cells})", **sizes)
    matrix = hadamard(patch_size**3, video.dtype, video.device) / patch_size**3
    return rearrange(F.linear(values, matrix), "b t h w c k -> b t h w (k c)")


def haar_inverse(
    bands: Float[Tensor, "b f y x d"], patch_size: int
) -> Float[Tensor, "b c t h w"]:
    """Inverse of :func:`haar_forward`; t = 1 + patch_size·(f - 1)."""
    shape = (bands.shape[1], bands.shape[2], bands.shape[3])
    pixels, cells, sizes = _pattern(patch_size, shape)
    values = rearrange(bands, "b t h w (k c) -> b t h w c k", k=patch_size**3)
    values = F.linear(values, hadamard(patch_size**3, bands.dtype, bands.device))
    video = rearrange(values, f"b t h w c ({cells}) -> {pixels}", **sizes)
    return video[:, :, patch_size - 1 :]
