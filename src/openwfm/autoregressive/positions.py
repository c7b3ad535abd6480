"""Where a token is: rotary angles and absolute sines over (time, rows, columns), in fp32.

With a begin of video, row 0 of every table belongs to it and is no position at all: angle 0,
embedding 0. Source: arXiv 2501.03575, section 5.2.2, and its release.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.autoregressive.config import TransformerConfig, YarnConfig
from openwfm.nn.rope import axis_dims

SINE_BASE = 10_000.0


def frequencies(
    dim: int, theta: float, yarn: YarnConfig | None = None, axis: int = 0
) -> Float[Tensor, " half"]:
    """theta^(-2i/dim), stretched by ``yarn`` as far as the training length of ``axis`` asks."""
    exponent = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    found = theta**-exponent
    if yarn is None:
        return found.float()
    turns = found * yarn.original[axis] / (2 * math.pi)
    keep = ((turns - yarn.beta_slow) / (yarn.beta_fast - yarn.beta_slow)).clamp(0, 1)
    return (found * ((1 - keep) / yarn.scale + keep)).float()


def coordinates(
    config: TransformerConfig, start: int, count: int, device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, "n 3"], Float[Tensor, " n"]]:
    """(t, h, w) of the tokens ``start`` to ``start + count``, and 0 for the begin of video, else
    1."""
    index = torch.arange(start, start + count, device=device) - int(config.bov)
    rows, columns = config.grid[1:]
    place = index.clamp_min(0)
    at = torch.stack((place // (rows * columns), place // columns % rows, place % columns), dim=1)
    return at, (index >= 0).float()


def rotary_rows(
    config: TransformerConfig, start: int, count: int, device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Cosines, and sines signed for `openwfm.nn.rope.rotate`, of ``count`` tokens."""
    at, there = coordinates(config, start, count, device)
    dims = axis_dims(config.head_dim)
    angles = [
        at[:, axis, None] * frequencies(dim, config.rope_theta, config.yarn, axis).to(device)
        for axis, dim in enumerate(dims)
    ]
    half = torch.cat(angles, dim=1) * there[:, None]
    sin = half.sin()
    return half.cos().repeat(1, 2), torch.cat((-sin, sin), dim=1)


def absolute_rows(
    config: TransformerConfig, start: int, count: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "n width"]:
    """Sines and cosines of the three coordinates, side by side [t | h | w]; not learnt."""
    at, there = coordinates(config, start, count, device)
    space = config.width // 6 * 2
    parts = []
    for axis, dim in enumerate((config.width - 2 * space, space, space)):
        exponent = torch.arange(dim // 2, dtype=torch.float64, device=device) / (dim / 2)
        angle = at[:, axis, None] * SINE_BASE**-exponent
        parts += [angle.sin(), angle.cos()]
    return torch.cat(parts, dim=1).float() * there[:, None]
