from __future__ import annotations

import math

import torch

from openwfm.nn.modulation import LowRankModulation, NoiseLevelEmbedding, modulated_norm, sinusoid


def test_sinusoid_is_cos_first() -> None:
    found = sinusoid(torch.tensor([0.7]), 6)[0]
    angles = [0.7 * 10000 ** (-i / 3) for i in range(3)]
    expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_embedding_is_the_raw_sinusoid_normalised() -> None:
    level = torch.tensor([0.2, -1.0])
    embedding, shared = NoiseLevelEmbedding(16)(level)
    raw = sinusoid(level, 16)
    expected = raw / (raw.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(embedding, expected, atol=1e-6) and shared.shape == (2, 48)


def test_final_modulation_takes_the_first_parts_of_the_shared_one() -> None:
    modulation = LowRankModulation(8, 4, 2)
    torch.nn.init.zeros_(modulation.up.weight)
    shift, scale = modulation(torch.randn(3, 8), torch.arange(24.0).expand(3, 24))
    assert torch.equal(shift[0, 0], torch.arange(8.0))
    assert torch.equal(scale[0, 0], torch.arange(8.0, 16.0))


def test_modulated_norm_one_for_all_equals_one_each() -> None:
    x, shift, scale = torch.randn(3, 5, 16), torch.randn(1, 1, 16), torch.randn(1, 1, 16)
    one = modulated_norm(x, shift, scale)
    each = modulated_norm(x, shift.expand(3, 1, 16), scale.expand(3, 1, 16))
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    closed = (x - mean) / (var + 1e-6).sqrt() * (1 + scale) + shift
    assert torch.allclose(one, closed, atol=1e-5) and torch.allclose(each, closed, atol=1e-5)
