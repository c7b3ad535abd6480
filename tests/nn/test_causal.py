"""Channels-last layers against plain 3D convolutions and norms, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from openwfm.nn.causal import FactorizedConv, FrameNorm, PointwiseConv, SpatialConv, TemporalConv


def plain(layer: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    """The release's padding rule on channels-first tensors (reference: 1.2 and 1.7)."""
    kernel, stride = layer.kernel_size, layer.stride
    pad = kernel[0] - 1 + 1 - stride[0] if kernel[0] > 1 else 0
    x = torch.cat((x[:, :, :1].repeat(1, 1, pad, 1, 1), x), 2)
    if kernel[1] == 3:
        x = F.pad(x, (1, 1, 1, 1) if stride[1] == 1 else (0, 1, 0, 1))
    return F.conv3d(x, layer.weight, layer.bias, stride)


LAYERS = [
    SpatialConv(3, 5),
    SpatialConv(3, 5, stride=2),
    TemporalConv(3, 5),
    TemporalConv(3, 5, stride=2),
    PointwiseConv(3, 5),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("shape", [(2, 6, 4, 6), (1, 2, 2, 2), (3, 4, 8, 2)])
def test_equals_a_plain_3d_convolution(layer: nn.Conv3d, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    ours = layer(x)
    theirs = plain(layer, x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(ours, theirs)
    probe = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    wanted = torch.autograd.grad(theirs, (x, layer.weight, layer.bias), probe)
    for left, right in zip(
        torch.autograd.grad(ours, (x, layer.weight, layer.bias), probe), wanted, strict=True
    ):
        torch.testing.assert_close(left, right)


def test_a_pair_never_looks_ahead() -> None:
    pair = FactorizedConv(3, 4)
    x = torch.randn(2, 7, 4, 4, 3)
    changed = x.clone()
    changed[:, 4:] += 1
    before, after = pair(x), pair(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4], after[:, 4])


@pytest.mark.parametrize("groups", [1, 3])
def test_norm_takes_each_frame_by_itself(groups: int) -> None:
    norm = FrameNorm(6, groups)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 4, 5, 6) * 3 + 1
    frames = [
        F.group_norm(x[:, t].permute(0, 3, 1, 2).contiguous(), groups, norm.weight, norm.bias, 1e-6)
        for t in range(3)
    ]
    torch.testing.assert_close(norm(x), torch.stack(frames, 1).permute(0, 1, 3, 4, 2))
