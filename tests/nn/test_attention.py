from __future__ import annotations

import pytest
import torch

from openwfm.nn.attention import CrossAttention, SelfAttention
from openwfm.nn.rope import rotary_table, rotate


def naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Heads second to last but one: b n h d."""
    logits = torch.einsum("bnhd,bmhd->bhnm", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1), v).flatten(2)


def test_self_attention_against_einsum() -> None:
    attention = SelfAttention(32, 2)
    torch.nn.init.normal_(attention.q_norm.weight)
    rotary = rotary_table((2, 2, 3), 16, ratios=(1.0, 1.0, 1.0), fps=None, base_fps=24.0)
    x = torch.randn(3, 12, 32)
    q, k, v = ((x @ w.T).unflatten(-1, (2, 16)) for w in attention.qkv.weight.chunk(3))
    q, k = rotate(attention.q_norm(q), *rotary), rotate(attention.k_norm(k), *rotary)
    assert torch.allclose(attention(x, rotary), attention.out(naive(q, k, v)), atol=1e-5)


@pytest.mark.parametrize("null_tokens", [1, 5, 480])
def test_null_tokens_equal_zero_padding_exactly(null_tokens: int) -> None:
    attention = CrossAttention(32, 2, 24)
    torch.nn.init.normal_(attention.k_norm.weight)
    x, text = torch.randn(2, 7, 32), torch.randn(2, 6, 24)
    text[1, 3:] = 0
    padded = torch.cat((text, torch.zeros(2, null_tokens, 24)), dim=1)
    q = attention.q_norm(attention.q(x).unflatten(-1, (2, 16)))
    k, v = ((padded @ w.T).unflatten(-1, (2, 16)) for w in attention.kv.weight.chunk(2))
    expected = attention.out(naive(q, attention.k_norm(k), v))
    assert torch.allclose(attention(x, attention.keys(text, null_tokens)), expected, atol=1e-5)
    assert torch.allclose(attention(x, attention.keys(padded, 0)), expected, atol=1e-5)
    assert not torch.allclose(attention(x, attention.keys(text, 0)), expected, atol=1e-3)


def test_no_text_gives_zero() -> None:
    attention = CrossAttention(32, 2, 24)
    x = torch.randn(2, 7, 32)
    for text, null_tokens in ((torch.zeros(2, 9, 24), 3), (torch.zeros(2, 0, 24), 12)):
        assert torch.equal(attention(x, attention.keys(text, null_tokens)), torch.zeros(2, 7, 32))


def test_gradients_do_not_see_null_tokens() -> None:
    attention = CrossAttention(32, 2, 24)
    x, text = torch.randn(2, 7, 32), torch.randn(2, 6, 24)
    padded = torch.cat((text, torch.zeros(2, 4, 24)), dim=1)
    grads = []
    for tokens, count in ((text, 4), (padded, 0)):
        attention.zero_grad()
        attention(x, attention.keys(tokens, count)).square().sum().backward()
        assert attention.kv.weight.grad is not None
        grads.append(attention.kv.weight.grad.clone())
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-5)
