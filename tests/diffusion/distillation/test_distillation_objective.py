"""Consistency distillation on paths that are known in closed form."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.distillation import ConsistencyConfig
from openwfm.diffusion.distillation.objective import (
    consistency_loss,
    level_index,
    path_levels,
    pseudo_huber,
    steps_at,
)
from openwfm.diffusion.precondition import Coefficients
from openwfm.diffusion.sampler import sample, solver_sigmas

CONFIG = ConsistencyConfig()
SPREAD = 0.7  # standard deviation of toy data: Gaussian, so every denoiser is a factor
SHAPE = (5, 2, 3, 4, 4)


def optimal(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return x * (SPREAD**2 / (SPREAD**2 + sigma**2)).view(-1, 1, 1, 1, 1)


def ends(num_steps: int) -> torch.Tensor:
    """Where Euler steps of the optimal denoiser lead from each level: factors, written out."""
    levels = path_levels(num_steps, CONFIG).double()
    shrink = SPREAD**2 / (SPREAD**2 + levels[:-1] ** 2)
    ratio = levels[1:] / levels[:-1]
    steps = ratio + (1 - ratio) * shrink
    return torch.cat((steps.flip(0).cumprod(0).flip(0), torch.ones(1)))


class Student:
    """The exact end of the discrete path, times ``wrong``."""

    def __init__(self, num_steps: int, wrong: float = 1.0) -> None:
        self.levels, self.factors = path_levels(num_steps, CONFIG), ends(num_steps) * wrong

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        index = (self.levels[None] - sigma[:, None]).abs().argmin(dim=1)
        return x * self.factors[index].to(x).view(-1, 1, 1, 1, 1)


def draws(num_steps: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    clean = SPREAD * torch.randn(num_steps, *SHAPE[1:], generator=generator)
    noise = torch.randn(num_steps, *SHAPE[1:], generator=generator)
    levels = path_levels(num_steps, CONFIG)
    return clean, noise, levels[:-1], levels[1:]


@pytest.mark.parametrize("num_steps", [2, 8, 33])
def test_the_exact_end_of_the_path_has_no_loss(num_steps):
    """At every level at once, the last step to 0 among them."""
    options = {"given": None, "sigma_data": 0.5, "huber": 1e-3}
    exact = Student(num_steps)
    loss = consistency_loss(exact, exact, optimal, *draws(num_steps), **options)
    assert 0 <= loss < 1e-4
    off = consistency_loss(Student(num_steps, 1.1), exact, optimal, *draws(num_steps), **options)
    assert off > 0.02


@pytest.mark.parametrize("num_steps", [2, 5, 32])
def test_one_step_of_the_exact_student_is_the_teachers_sampler(num_steps):
    teacher = SamplerConfig(kind="euler", num_steps=num_steps, guidance=0.0)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    many = sample(optimal, noise, teacher)
    one = sample(Student(num_steps), noise, SamplerConfig(num_steps=1, guidance=0.0))
    torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-5)
    assert path_levels(num_steps, CONFIG).tolist() == pytest.approx([*solver_sigmas(teacher), 0.0])


def test_a_long_path_is_the_ode():
    """Gaussian data: the ODE maps x at sigma to x·s/√(s² + sigma²); Euler is of first order."""
    exact = SPREAD / math.sqrt(SPREAD**2 + CONFIG.sigma_max**2)
    errors = [abs(float(ends(n)[0]) / exact - 1) for n in (100, 200, 400)]
    assert errors[2] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_gradients_reach_the_student_alone():
    parts = [torch.ones((), requires_grad=True) for _ in range(3)]
    scaled = [lambda x, sigma, part=part: optimal(x, sigma) * part for part in parts]
    loss = consistency_loss(*scaled, *draws(8), given=None, sigma_data=0.5, huber=1e-3)
    loss.backward()
    assert parts[0].grad is not None and parts[0].grad != 0
    assert parts[1].grad is None and parts[2].grad is None


def test_the_weight_makes_errors_of_the_raw_network_count_alike():
    """Far from 0 the loss is the root mean square of F's error, whatever the level."""
    clean, noise, sigma, lower = draws(16)
    exact = Student(16)
    gap = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(2)) * 3

    def off(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return exact(x, level) + Coefficients.at(level, 0.5).out * gap

    for i in range(16):
        row = [part[i : i + 1] for part in (clean, noise, sigma, lower)]
        loss = consistency_loss(off, exact, optimal, *row, None, sigma_data=0.5, huber=1e-9)
        assert float(loss) == pytest.approx(float(gap.square().mean().sqrt()), rel=1e-2)


@pytest.mark.parametrize("scale", [1e-3, 0.1])
def test_pseudo_huber(scale):
    generator = torch.Generator().manual_seed(0)
    difference = torch.randn(SHAPE, generator=generator)
    given = torch.arange(3)[None].expand(5, -1) < torch.tensor([0, 1, 2, 1, 0])[:, None]
    given = given[:, None, :, None, None]
    found = pseudo_huber(difference, given, scale)
    for i in range(5):
        kept = difference[i][:, ~given[i].flatten()]
        expected = math.sqrt(float(kept.square().mean()) + scale**2) - scale
        assert float(found[i]) == pytest.approx(expected, rel=1e-5)
    spoilt = torch.where(given, torch.tensor(1e9), difference)
    assert torch.equal(pseudo_huber(spoilt, given, scale), found)
    assert torch.equal(pseudo_huber(torch.zeros(SHAPE), None, scale), torch.zeros(5))
    assert torch.equal(
        pseudo_huber(difference.bfloat16(), None, scale),
        pseudo_huber(difference.bfloat16().float(), None, scale),
    )
    with pytest.raises(ValueError, match="every frame of a clip is given"):
        pseudo_huber(difference, torch.ones_like(given), scale)


@pytest.mark.parametrize(("p_mean", "p_std"), [(0.0, 1.0), (-1.2, 1.2), (3.0, 0.1)])
def test_levels_are_drawn_uniformly(p_mean, p_std):
    count, num_steps = 64_000, 32
    normal = torch.randn(count, generator=torch.Generator().manual_seed(0))
    sigma = (p_mean + p_std * normal).exp()
    index = level_index(sigma, num_steps, p_mean=p_mean, p_std=p_std)
    counts = torch.tensor([Counter(index.tolist())[i] for i in range(num_steps)]).double()
    expected = count / num_steps
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 61.1  # 31 degrees of freedom, p = 0.001
    extreme = level_index(torch.tensor([1e-30, 1e30]), num_steps, p_mean=0.0, p_std=1.0)
    assert extreme.tolist() == [0, num_steps - 1]


def test_the_path_grows():
    config = ConsistencyConfig(min_steps=8, max_steps=32, schedule_steps=900)
    counts = [steps_at(step, config) for step in range(1000)]
    assert Counter(counts[:900]) == {8: 300, 16: 300, 32: 300}
    assert counts == sorted(counts) and set(counts[900:]) == {32}
    fixed = ConsistencyConfig(min_steps=16, max_steps=16)
    assert {steps_at(step, fixed) for step in range(0, 5000, 99)} == {16}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sigma_min": 0.0}, "consistency.sigma_min=0.0: must be positive"),
        ({"sigma_min": 90.0}, "must be below sigma_max=80.0"),
        ({"huber": -1.0}, "consistency.huber=-1.0"),
        ({"guidance": -1.0}, "consistency.guidance=-1.0"),
        ({"target_decay": 1.0}, r"consistency.target_decay=1.0: must be in \[0, 1\)"),
        ({"min_steps": 1}, "consistency.min_steps=1"),
        ({"max_steps": 24}, "consistency.max_steps=24: must be min_steps=8 doubled"),
        ({"max_steps": 4}, "consistency.max_steps=4"),
        ({"max_steps": 0}, "consistency.max_steps=0"),
        ({"schedule_steps": 0}, "consistency.schedule_steps=0"),
    ],
)
def test_bad_values_are_named(values, words):
    with pytest.raises(ValueError, match=words):
        ConsistencyConfig(**values)
