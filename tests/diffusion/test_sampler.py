from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.sampler import guided, sample, solver_sigmas, solver_steps

BASE = SamplerConfig(sigma_min=0.01, sigma_max=20.0, guidance=0.0)
STD = 0.5


def gaussian(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Posterior mean for data ~ Normal(0, STD²); the solution of the ODE is known."""
    return x.double() * STD**2 / (STD**2 + float(sigma) ** 2)


def error(kind: str, steps: int) -> float:
    """Distance to the exact solution at sigma_min, followed by the same final x0."""
    noise = torch.tensor([1.0, -0.4, 2.0]).view(1, 3, 1, 1, 1)
    config = replace(BASE, kind=kind, num_steps=steps)
    found = sample(lambda x, s: gaussian(x, s).float(), noise, config)
    exact = noise.double() * 20.0 * ((STD**2 + 0.01**2) / (STD**2 + 20.0**2)) ** 0.5
    return float((found.double() - gaussian(exact, torch.tensor(0.01))).abs().max())


@pytest.mark.parametrize("kind, order", [("euler", 1), ("heun", 2), ("res_2ab", 2)])
def test_order_on_an_analytic_gaussian(kind: str, order: int) -> None:
    errors = [error(kind, steps) for steps in (20, 40, 80)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert coarse / fine == pytest.approx(2.0**order, rel=0.25)


@pytest.mark.parametrize("kind, evaluations", [("euler", 7), ("heun", 13), ("res_2ab", 8)])
def test_number_of_evaluations(kind: str, evaluations: int) -> None:
    seen: list[float] = []

    def count(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(float(sigma))
        return x * 0

    config = replace(BASE, kind=kind, num_steps=7)
    found = sample(count, torch.ones(1, 1, 1, 1, 1), config)
    assert len(seen) == evaluations and seen[0] == pytest.approx(20) and float(found.sum()) == 0
    assert seen[-1] == pytest.approx(0.01) and solver_sigmas(config)[-1] == pytest.approx(0.01)


@pytest.mark.parametrize(
    "grid, sigma_min, start, end",
    [
        ("to_zero", 0.0002, [80, 67.1260, 56.0703], [0.001342, 0.000553, 0.0002]),
        ("extra_point", 0.002, [80, 68.3251, 58.1421], [0.0072721, 0.0039287, 0.002]),
    ],
)
def test_grids_of_the_releases(
    grid: str, sigma_min: float, start: list[float], end: list[float]
) -> None:
    config = SamplerConfig(num_steps=35, sigma_min=sigma_min, grid=grid)
    sigmas = solver_sigmas(config)
    assert len(sigmas) == 35 + (grid == "extra_point")
    assert sigmas[:3] == pytest.approx(start, rel=1e-5)
    assert sigmas[-3:] == pytest.approx(end, rel=1e-3)
    assert solver_steps(config)[-1] == (pytest.approx(sigma_min), 0.0)


def test_release_grid_is_that_of_the_solver() -> None:
    for kind, grid in (("euler", "to_zero"), ("heun", "to_zero"), ("res_2ab", "extra_point")):
        config = replace(BASE, kind=kind)
        assert solver_steps(config) == solver_steps(replace(config, grid=grid))


@pytest.mark.parametrize("kind", ["euler", "heun", "res_2ab"])
def test_a_repeated_last_level_leaves_its_noise(kind: str) -> None:
    """diffusers' pipelines evaluate once more there and then take a step of no length."""
    config = replace(BASE, kind=kind, num_steps=9, grid="repeat_last")
    full = [sigma for sigma, _ in solver_steps(replace(config, grid="to_zero"))]
    assert solver_steps(config) == list(zip(full, full[1:], strict=False))
    target, noise = torch.randn(2, 3, 2, 2, 2), torch.randn(2, 3, 2, 2, 2)
    found = sample(lambda x, s: target, noise, config)
    assert torch.allclose(found, target + 0.01 * (noise - target / 20), atol=1e-5)


# A mixture of two Gaussians in two dimensions, where the denoiser is known.
MEANS = torch.tensor([[-1.0, 0.5], [1.0, -0.2]], dtype=torch.float64)
STDS, WEIGHTS = torch.tensor([0.2, 0.4]).double(), torch.tensor([0.7, 0.3]).double()


def mixture(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Posterior mean: responsibilities times each component's own."""
    flat = x.double().flatten(1)[:, None]
    total = STDS.square() + sigma.double() ** 2
    square = (flat - MEANS).square().sum(-1)
    logit = WEIGHTS.log() - total.log() - square / (2 * total)
    own = MEANS + (STDS.square() / total)[:, None] * (flat - MEANS)
    return (logit.softmax(1)[..., None] * own).sum(1).view_as(x).float()


@pytest.mark.parametrize(
    "kind, steps, scheduler",
    [
        ("euler", 60, None),
        ("heun", 18, None),
        ("res_2ab", 18, None),
        ("diffusers", 60, "EDMEulerScheduler"),
        ("diffusers", 24, "EDMDPMSolverMultistepScheduler"),
    ],
)
def test_samples_have_the_distribution_of_the_data(
    kind: str, steps: int, scheduler: str | None
) -> None:
    """Kolmogorov-Smirnov against exact draws, along both axes; 5000 of each, at 0.1 %."""
    if scheduler is not None:
        pytest.importorskip("diffusers")
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(3)
    count = 5000
    which = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    exact = MEANS[which] + STDS[which, None] * noise
    start = torch.randn(count, 2, 1, 1, 1, generator=generator)
    config = SamplerConfig(kind=kind, num_steps=steps, scheduler=scheduler, sigma_min=0.01)
    found = sample(mixture, start, config).flatten(1)
    for axis in range(2):
        assert stats.ks_2samp(found[:, axis].numpy(), exact[:, axis].numpy()).pvalue > 1e-3
    share = float((found[:, 0] < 0).double().mean())
    assert share == pytest.approx(float((exact[:, 0] < 0).double().mean()), abs=0.03)


def test_too_few_steps_are_found_out() -> None:
    """The test above can fail: three Euler steps do not give the distribution."""
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(3)
    which = torch.multinomial(WEIGHTS, 5000, replacement=True, generator=generator)
    noise = torch.randn(5000, 2, generator=generator, dtype=torch.float64)
    exact = MEANS[which] + STDS[which, None] * noise
    start = torch.randn(5000, 2, 1, 1, 1, generator=generator)
    found = sample(mixture, start, SamplerConfig(num_steps=3, sigma_min=0.01)).flatten(1)
    assert stats.ks_2samp(found[:, 0].numpy(), exact[:, 0].numpy()).pvalue < 1e-3


@pytest.mark.parametrize("kind", ["euler", "heun", "res_2ab"])
@pytest.mark.parametrize("steps", [1, 2, 35])
def test_a_perfect_denoiser_is_reproduced(kind: str, steps: int) -> None:
    target = torch.randn(2, 3, 2, 2, 2)
    found = sample(
        lambda x, s: target, torch.randn_like(target), replace(BASE, kind=kind, num_steps=steps)
    )
    assert torch.allclose(found, target, atol=1e-5)


def test_guidance_formula() -> None:
    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        assert len(x) == 4
        return torch.tensor([1.0, 2.0, 10.0, 30.0]).view(4, 1, 1, 1, 1)

    found = guided(denoise, 0.5)(torch.zeros(2, 1, 1, 1, 1), torch.tensor([1.0]))
    assert found.flatten().tolist() == [1 + 0.5 * (1 - 10), 2 + 0.5 * (2 - 30)]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": "ddim"}, "sampler.kind=ddim"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"sigma_min": 30.0}, "sigma_min=30.0"),
        ({"guidance": -1.0}, "guidance=-1.0"),
        ({"rho": 0}, "rho=0"),
        ({"grid": "cosine"}, "sampler.grid=cosine"),
        ({"cache": -0.1}, "cache=-0.1"),
        ({"cache": float("nan")}, "cache=nan"),
        ({"guidance_interval": (2.0, 1.0)}, "guidance_interval"),
        ({"guidance_interval": (1.0,)}, "guidance_interval"),
        ({"scheduler": "EDMEulerScheduler"}, "needs sampler.kind=diffusers"),
        ({"kind": "diffusers"}, "sampler.scheduler=None"),
        (
            {"kind": "diffusers", "scheduler": "EDMEulerScheduler", "grid": "to_zero"},
            "sampler.grid=to_zero",
        ),
    ],
)
def test_bad_config(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BASE, **changes)  # type: ignore[arg-type]
