"""A kernel laid out beforehand gives what the library's own convolution gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from openwfm.nn.direct import convolve, frames_first, laid_out


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laid_out_kernels(stride: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 12, 20, generator=generator, dtype=dtype)
    weight = torch.randn(24, 20, 3, 3, generator=generator, dtype=dtype)
    bias = torch.randn(24, generator=generator, dtype=dtype)
    (kernel,) = laid_out(weight)
    with torch.no_grad():
        y = convolve(x, kernel, bias, stride)
        padded = F.pad(frames_first(x), (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
        wanted = F.conv2d(padded, weight, bias, stride)
    assert y.shape == (2, 3, 8 // stride, 12 // stride, 24)
    torch.testing.assert_close(frames_first(y), wanted, rtol=1e-5, atol=1e-5)


def test_without_the_library_the_kernel_stays_a_plain_tensor(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    (kernel,) = laid_out(torch.ones(4, 4, 3, 3))
    assert not kernel.is_mkldnn and kernel.is_contiguous(memory_format=torch.channels_last)
