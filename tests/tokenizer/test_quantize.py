"""Finite scalar quantisation against its golden indices and a scalar version of the formula."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from openwfm.tokenizer.presets import FSQ_LEVELS as LEVELS
from openwfm.tokenizer.quantize import (
    code_histogram,
    code_usage,
    codes_to_indices,
    fsq_codes,
    indices_to_codes,
    perplexity,
)

NUM_CODES = 64_000


def scalar_fsq(values: list[float], levels: tuple[int, ...]) -> tuple[list[float], int]:
    """Codes and index of one vector, number by number (reference: 2.2)."""
    codes, index, stride = [], 0, 1
    for value, count in zip(values, levels, strict=True):
        half = (count - 1) * 1.001 / 2
        offset = 0.5 if count % 2 == 0 else 0.0
        q = round(math.tanh(value + math.atanh(offset / half)) * half - offset)
        codes.append(q / (count // 2))
        index += (q + count // 2) * stride
        stride *= count
    return codes, index


@pytest.mark.parametrize("value, index", [(0.0, 32036), (100.0, 63999), (-100.0, 0)])
def test_golden_indices(value: float, index: int) -> None:
    codes = fsq_codes(torch.full((1, 6), value), LEVELS)
    indices = codes_to_indices(codes, LEVELS)
    assert indices.tolist() == [index]
    assert indices.dtype == torch.int32


def test_every_code_comes_back() -> None:
    indices = torch.arange(NUM_CODES, dtype=torch.int32)
    codes = indices_to_codes(indices, LEVELS)
    assert torch.equal(codes_to_indices(codes, LEVELS), indices)
    assert len(codes.unique(dim=0)) == NUM_CODES
    values = [sorted(set(column.tolist())) for column in codes.unbind(-1)]
    assert values == [[i / 4 for i in range(-4, 4)]] * 3 + [[i / 2 for i in range(-2, 3)]] * 3
    # The first channel is the fastest digit.
    digits = itertools.product(*(range(count) for count in reversed(LEVELS)))
    wanted = torch.tensor([digit[::-1] for digit in itertools.islice(digits, 0, NUM_CODES, 997)])
    half = torch.tensor([count // 2 for count in LEVELS])
    assert torch.equal(codes[::997], (wanted - half) / half)


@pytest.mark.parametrize("levels", [LEVELS, (2, 3), (7, 5, 5, 5, 5), (16, 4)])
def test_equals_the_formula_number_by_number(levels: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(300, len(levels), generator=generator, dtype=torch.float64) * 2
    codes, indices = zip(*(scalar_fsq(row, levels) for row in z.tolist()), strict=True)
    ours = fsq_codes(z, levels)
    assert torch.equal(ours, torch.tensor(codes, dtype=torch.float64))
    assert codes_to_indices(ours, levels).tolist() == list(indices)


def test_gradients_pass_the_rounding() -> None:
    z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (gradient,) = torch.autograd.grad(fsq_codes(z, LEVELS).sum(), z)
    for channel, count in enumerate(LEVELS):
        half = (count - 1) * 1.001 / 2
        shift = math.atanh((0.5 if count % 2 == 0 else 0.0) / half)
        slope = half * (1 - torch.tanh(z[:, channel] + shift) ** 2) / (count // 2)
        torch.testing.assert_close(gradient[:, channel], slope)


def test_low_precision_is_rounded_only_at_the_end() -> None:
    z = torch.randn(100, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    codes = fsq_codes(z, LEVELS)
    assert codes.dtype == torch.bfloat16
    assert torch.equal(codes.float(), fsq_codes(z.float(), LEVELS))  # eighths fit into bf16
    wanted = codes_to_indices(fsq_codes(z.float(), LEVELS), LEVELS)
    assert torch.equal(codes_to_indices(codes, LEVELS), wanted)


@pytest.mark.parametrize(
    "indices, usage, effective",
    [
        (torch.arange(8), 1.0, 8.0),
        (torch.zeros(2, 3, dtype=torch.int32), 1 / 8, 1.0),
        (torch.tensor([[0, 1], [2, 3]]), 0.5, 4.0),
        (torch.tensor([0, 0, 0, 5]), 0.25, 4 / 27**0.25),
    ],
)
def test_usage_and_perplexity(indices: Tensor, usage: float, effective: float) -> None:
    histogram = code_histogram(indices, 8)
    assert histogram.sum() == indices.numel()
    assert code_usage(histogram).item() == pytest.approx(usage)
    assert perplexity(histogram).item() == pytest.approx(effective)
