from __future__ import annotations

import math

import pytest
import torch

from openwfm.nn.rope import (
    axis_dims,
    axis_frequencies,
    axis_positions,
    axis_theta,
    rotary_table,
    rotate,
)


def table(fps: float | None, scale: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> torch.Tensor:
    rate = None if fps is None else torch.tensor([fps])
    cos, sin = rotary_table((3, 4, 5), 128, ratios=scale, fps=rate, base_fps=24.0)
    half = cos.shape[-1] // 2
    return torch.atan2(sin[..., half:], cos[..., :half])


@pytest.mark.parametrize("head_dim", [16, 32, 64, 96, 128])
def test_axes_fill_the_head_with_whole_pairs(head_dim: int) -> None:
    dims = axis_dims(head_dim)
    assert sum(dims) == head_dim and all(dim % 2 == 0 and dim >= 4 for dim in dims)


def test_reference_values() -> None:
    assert axis_dims(128) == (44, 42, 42)
    assert axis_theta(44, 2.0) == pytest.approx(20671.16, abs=0.05)
    assert axis_theta(42, 2.0) == pytest.approx(20705.3, abs=0.5)
    frequencies = axis_frequencies(44, 2.0)
    assert frequencies[0] == 1.0
    assert float(frequencies[-1]) == pytest.approx(20671.16 ** (-42 / 44), rel=1e-5)


@pytest.mark.parametrize("head_dim", [8, 15, 33])
def test_bad_head(head_dim: int) -> None:
    with pytest.raises(ValueError, match="head_dim"):
        axis_dims(head_dim)


def test_angles_are_time_rows_columns_twice() -> None:
    """Against a loop over tokens and channels."""
    cos, sin = rotary_table(
        (2, 3, 2), 16, ratios=(2.0, 1.0, 3.0), fps=torch.tensor([12.0]), base_fps=24.0
    )
    dims = axis_dims(16)
    token = 0
    for t in range(2):
        for h in range(3):
            for w in range(2):
                angles = []
                for position, dim, ratio in zip(
                    (t * 2.0, h, w), dims, (2.0, 1.0, 3.0), strict=True
                ):
                    theta = 10000 * ratio ** (dim / (dim - 2))
                    angles += [position * theta ** (-2 * j / dim) for j in range(dim // 2)]
                for j, angle in enumerate(angles):
                    for channel, sign in ((j, -1), (j + 8, 1)):
                        assert float(cos[0, token, channel]) == pytest.approx(
                            math.cos(angle), abs=1e-6
                        )
                        assert float(sin[0, token, channel]) == pytest.approx(
                            sign * math.sin(angle), abs=1e-6
                        )
                token += 1


def test_rate_rescales_time_only() -> None:
    slow, fast = table(12.0), table(24.0)
    none = table(None)
    assert torch.equal(fast, none)
    assert torch.allclose(slow[:, 20:40, :22].sin(), (2 * fast[:, 20:40, :22]).sin(), atol=1e-6)
    assert torch.equal(slow[..., 22:], fast[..., 22:])


def test_per_sample_rates() -> None:
    both = rotary_table(
        (2, 2, 2), 32, ratios=(1.0, 1.0, 1.0), fps=torch.tensor([8.0, 30.0]), base_fps=24.0
    )
    for index, rate in enumerate((8.0, 30.0)):
        one = rotary_table(
            (2, 2, 2), 32, ratios=(1.0, 1.0, 1.0), fps=torch.tensor([rate]), base_fps=24.0
        )
        assert torch.equal(both[0][index], one[0][0]) and torch.equal(both[1][index], one[1][0])


def test_rotation_keeps_lengths_and_depends_on_offsets_only() -> None:
    cos, sin = rotary_table((8, 1, 1), 16, ratios=(1.0, 1.0, 1.0), fps=None, base_fps=24.0)
    vector, other = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    a = rotate(vector.expand(1, 8, 1, 16), cos, sin)
    b = rotate(other.expand(1, 8, 1, 16), cos, sin)
    assert torch.allclose(a.norm(dim=-1), vector.norm(dim=-1).expand(1, 8, 1), atol=1e-5)
    products = torch.einsum("bnhd,bmhd->nm", a, b)
    assert torch.allclose(products[1:, 1:], products[:-1, :-1], atol=1e-5)
    assert not torch.allclose(products[0], products[0, 0].expand(8), atol=1e-2)


def _angles(dtype: torch.dtype, ratios: tuple[float, float, float]) -> list[torch.Tensor]:
    """Of 704x1280 pixels, 121 frames at 24 fps: 16x44x80 patches, heads of 128."""
    positions = axis_positions((16, 44, 80), torch.tensor([24.0]), 24.0, dtype, "cpu")
    axes = zip(positions, axis_dims(128), ratios, strict=True)
    return [(p[..., None] * axis_frequencies(dim, r, dtype)).float() for p, dim, r in axes]


def test_bf16_angles_err_as_the_released_code_does() -> None:
    """Measured on the release: 0.026, 0.074 and 0.148 rad at most for ratios (2, 1, 1)."""
    exact, rounded = (_angles(d, (2.0, 1.0, 1.0)) for d in (torch.float32, torch.bfloat16))
    worst = [float((a - b).abs().max()) for a, b in zip(exact, rounded, strict=True)]
    assert worst == pytest.approx([0.026, 0.074, 0.148], abs=5e-4)


@pytest.mark.parametrize("fps", [24.0, 30.0, 7.0])
def test_bf16_rounds_after_every_operation(fps: float) -> None:
    """The release's lines, spelt out: everything is bf16 until the angles are cast to fp32."""
    bf16 = torch.bfloat16
    dims, ratios, grid = axis_dims(128), (2.0, 1.0, 1.0), (3, 4, 5)
    halves = []
    for axis, (dim, ratio) in enumerate(zip(dims, ratios, strict=True)):
        power = (torch.arange(0, dim, 2).float() / dim).to(bf16)
        theta = torch.tensor(10000.0 * ratio ** (dim / (dim - 2))).to(bf16).float()
        frequency = (1.0 / (theta ** power.float()).to(bf16).float()).to(bf16)
        position = torch.arange(grid[axis]).to(bf16)
        if axis == 0:
            rate = torch.tensor(fps).to(bf16).float()
            position = ((position.float() / rate).to(bf16).float() * 24).to(bf16)
        halves.append(torch.outer(position.float(), frequency.float()).to(bf16).float())
    t, h, w = halves
    wanted = torch.cat(
        (
            t[:, None, None].expand(*grid, -1),
            h[None, :, None].expand(*grid, -1),
            w[None, None].expand(*grid, -1),
        ),
        dim=-1,
    ).flatten(0, 2)
    cos, sin = rotary_table(
        grid, 128, ratios=ratios, fps=torch.tensor([fps]), base_fps=24.0, dtype=bf16
    )
    assert cos.dtype == sin.dtype == torch.float32
    assert torch.allclose(cos[0, :, :64], wanted.cos(), rtol=0, atol=1e-6)
    assert torch.allclose(sin[0, :, 64:], wanted.sin(), rtol=0, atol=1e-6)
