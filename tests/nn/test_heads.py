from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from openwfm.nn.attention import attend
from openwfm.nn.heads import EPSILON, attention_heads, unit_heads
from openwfm.nn.rope import rotary_table, rotate

GRID = (2, 2, 3)


def rotary(fps: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return rotary_table(GRID, 16, ratios=(1.0, 1.0, 1.0), fps=fps, base_fps=24.0)


def plain(qkv: Tensor, q_weight: Tensor, k_weight: Tensor) -> tuple[Tensor, ...]:
    """As autograd does it, from torch's norm and `rotate`."""
    q, k, v = qkv.unbind(2)
    norm = nn.functional.rms_norm
    q, k = (norm(x, (16,), w, EPSILON) for x, w in ((q, q_weight), (k, k_weight)))
    q, k = (rotate(x, *rotary()) for x in (q, k))
    return tuple(part.transpose(1, 2) for part in (q, k, v))


def test_heads_and_their_gradients_are_those_of_autograd() -> None:
    found = []
    for heads in (lambda *x: attention_heads(*x, rotary()), plain):
        torch.manual_seed(0)
        leaves = [torch.randn(2, 12, 3, 4, 16), 1 + torch.rand(16), 1 + torch.rand(16)]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        outputs = heads(*leaves)
        sum((part * torch.randn(part.shape)).sum() for part in outputs).backward()
        found.append([*outputs, *(leaf.grad for leaf in leaves)])
    for own, wanted in zip(*found, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-5)


def test_gradients_by_finite_differences() -> None:
    cos, sin = (table.double() for table in rotary(torch.tensor([12.0, 24.0])))
    qkv = torch.randn(2, 12, 3, 1, 16, dtype=torch.float64, requires_grad=True)
    weights = [torch.rand(16, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda *x: attention_heads(*x, (cos, sin)), (qkv, *weights), fast_mode=True
    )
    assert torch.autograd.gradcheck(
        unit_heads, (qkv[:, :, 0].detach().requires_grad_(), weights[0])
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_on_a_cpu_is_in_fp32_under_autocast(dtype: torch.dtype) -> None:
    q, k, v = torch.randn(3, 2, 4, 12, 16).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, k, v, None, dtype)
    assert torch.equal(found, nn.functional.scaled_dot_product_attention(q, k, v))
