from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.sampler import guided, sample, solver_sigmas

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
    ],
)
def test_bad_config(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BASE, **changes)  # type: ignore[arg-type]
