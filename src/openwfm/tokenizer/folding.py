"""Chains of linear layers as one kernel: what inference computes instead of them.

Each function takes the kernel and bias of a convolution, perhaps those of the pointwise mix behind
it, and gives the kernel (in the layout of who uses it) and bias of the whole. Products are taken in
double precision and rounded once.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.nn.causal import tap_matrices
from openwfm.nn.direct import laid_out
from openwfm.nn.wavelet import haar_signs
from openwfm.nn.winograd import doubled_filters


class Fold(Protocol):
    __name__: str

    def __call__(
        self, weight: Tensor, bias: Tensor, *mix: Tensor, hybrid: bool
    ) -> tuple[Tensor, ...]: ...


def pooled_in_space(
    weight: Float[Tensor, "c c 1 3 3"], bias: Tensor, *mix: Tensor, hybrid: bool
) -> tuple[Float[Tensor, "c c 3 3"], Tensor]:
    """Strided 3×3 plus the mean of 2×2 pixels; the padding is right and bottom, so that the cell
    is the kernel's upper left."""
    kernel = weight.double().squeeze(2)
    if hybrid:
        cell = kernel.new_zeros(3, 3)
        cell[:2, :2] = 1 / 4
        kernel = kernel + _identity(kernel)[:, :, None, None] * cell
    kernel, offset = _mixed(kernel, bias, mix)
    return (*laid_out(kernel.to(weight.dtype)), offset)


def pooled_in_time(
    weight: Float[Tensor, "c c 3 1 1"], bias: Tensor, *mix: Tensor, hybrid: bool
) -> tuple[Float[Tensor, "3 c c"], Tensor]:
    """Strided 3×1×1 plus the mean of the pair of frames under its last two taps."""
    kernel = weight.double().clone()
    if hybrid:
        kernel[:, :, 1:] += _identity(kernel)[:, :, None, None, None] / 2
    kernel, offset = _mixed(kernel, bias, mix)
    return (*tap_matrices(kernel.to(weight.dtype)), offset)


def doubled_in_time(
    weight: Float[Tensor, "c c 3 1 1"], bias: Tensor, *mix: Tensor, hybrid: bool
) -> tuple[Float[Tensor, "3 c c"], Tensor]:
    """3×1×1 on doubled frames plus these: factors of the frame (for both of its copies), and of its
    difference to the frame before, for its first copy and its second.

    The first copy of x sees x₋, x₋, x and the second x₋, x, x, with x₋ before x.
    """
    kernel = weight.double().clone()
    if hybrid:
        kernel[:, :, 2] += _identity(kernel)[:, :, None, None]
    kernel, offset = _mixed(kernel, bias, mix)
    first, second, _ = kernel.unbind(2)
    taps = torch.stack((kernel.sum(2), first + second, first), 2)
    return (*tap_matrices(taps.to(weight.dtype)), offset)


def doubled_in_space(
    weight: Float[Tensor, "c c 1 3 3"], bias: Tensor, *mix: Tensor, hybrid: bool
) -> tuple[Float[Tensor, "9 c c"], Tensor]:
    """3×3 on doubled rows and columns plus these, for `openwfm.nn.winograd.doubled`."""
    kernel = weight.double().squeeze(2).clone()
    if hybrid:
        kernel[:, :, 1, 1] += _identity(kernel)
    kernel, offset = _mixed(kernel, bias, mix)
    return doubled_filters(kernel)[0].to(weight.dtype), offset


def _identity(kernel: Tensor) -> Float[Tensor, "c c"]:
    return torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)


def _mixed(kernel: Tensor, bias: Tensor, mix: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """With the pointwise layer (weight, bias) ``mix`` behind it, if there is one."""
    if not mix:
        return kernel, bias
    matrix = mix[0].double().flatten(1)
    offset = matrix @ bias.double() + mix[1].double()
    return torch.tensordot(matrix, kernel, dims=([1], [0])), offset.to(bias.dtype)


def bands_of_cells(
    weight: Float[Tensor, "d bands 1 3 3"], *, patch_size: int, image: bool
) -> tuple[Float[Tensor, "d cells 3 3"]]:
    """The 3×3 convolution of wavelet bands as one of the pixels of each cell, ``(c p q r)``."""
    signs = haar_signs(patch_size, image=image).to(weight.device, torch.float64)
    kernel = weight.double().squeeze(2).unflatten(1, (len(signs), -1))
    cells = torch.einsum("dkcyx,kp->dcpyx", kernel, signs / len(signs)).flatten(1, 2)
    return laid_out(cells.to(weight.dtype))


def cells_of_bands(
    weight: Float[Tensor, "bands c i j k"], bias: Tensor, *, patch_size: int, image: bool
) -> tuple[Tensor, Tensor]:
    """The convolution into wavelet bands as one into the pixels of each cell, ``(c p q r)``.

    A kernel in time comes as ``3 c cells`` (`openwfm.nn.causal.tap_matrices`), one in space as
    ``cells c 3 3``.
    """
    signs = haar_signs(patch_size, image=image).to(weight.device, torch.float64)

    def inverse(x: Tensor) -> Tensor:
        bands = x.double().unflatten(0, (len(signs), -1))
        return torch.einsum("kc...,kp->cp...", bands, signs).flatten(0, 1).to(x.dtype).contiguous()

    kernel = inverse(weight)
    laid = laid_out(kernel.squeeze(2)) if image else tap_matrices(kernel)
    return laid[0], inverse(bias)
