from __future__ import annotations

import math

import pytest
import torch

from openwfm.diffusion.noise import frame_factor, log_normal, sigma_grid
from openwfm.diffusion.objective import edm_loss, edm_weight, uncertainty_network
from openwfm.diffusion.precondition import Coefficients, c_noise


def test_preconditioning_keeps_unit_variance() -> None:
    sigma = torch.tensor([0.01, 0.5, 3.0, 80.0])
    at = Coefficients.at(sigma, 0.5)
    assert torch.allclose(at.input.flatten() ** 2 * (sigma**2 + 0.25), torch.ones(4))
    assert torch.allclose(edm_weight(sigma, 0.5) * at.out.flatten() ** 2, torch.ones(4))
    # The target of F has unit variance: var((x0 - skip·x)/out), with x = x0 + sigma·n.
    skip, out = at.skip.flatten(), at.out.flatten()
    assert torch.allclose(((1 - skip) ** 2 * 0.25 + (skip * sigma) ** 2) / out**2, torch.ones(4))
    assert torch.allclose(c_noise(sigma), sigma.log() / 4)


def test_log_normal_moments_and_determinism() -> None:
    draws = [
        log_normal(200_000, p_mean=-1.0, p_std=0.7, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    ]
    assert torch.equal(*draws)
    logs = draws[0].log()
    assert float(logs.mean()) == pytest.approx(-1.0, abs=0.01)
    assert float(logs.std()) == pytest.approx(0.7, abs=0.01)
    assert frame_factor(16) == 4.0


def test_sigma_grids_of_the_releases() -> None:
    euler = sigma_grid(35, sigma_min=0.0002, sigma_max=80, rho=7)
    assert euler[:3] == pytest.approx([80, 67.1260, 56.0703], rel=1e-5)
    assert euler[-3:] == pytest.approx([0.001342, 0.000553, 0.0002], rel=1e-3)
    res = sigma_grid(36, sigma_min=0.002, sigma_max=80, rho=7)
    assert res[:3] == pytest.approx([80, 68.3251, 58.1421], rel=1e-5)
    assert res[-3:] == pytest.approx([0.0072721, 0.0039287, 0.002], rel=1e-4)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    given = torch.zeros(3, 1, 4, 1, 1, dtype=torch.bool)
    given[1, :, :1], given[2, :, :3] = True, True
    return torch.randn(3, 2, 4, 3, 3), torch.randn(3, 2, 4, 3, 3), torch.rand(3) + 0.2, given


def test_loss_against_a_mean_over_generated_elements() -> None:
    clean, estimate, sigma, given = batch()
    u = torch.tensor([0.3, -0.2, 0.9])
    terms, errors = [], []
    for i in range(3):
        kept = ~given[i].expand_as(clean[i])
        weight = (sigma[i] ** 2 + 0.25) / (sigma[i] * 0.5) ** 2
        error = weight * (clean[i] - estimate[i])[kept] ** 2
        errors.append(error)
        terms.append(error * math.exp(-u[i]) + u[i])
    loss, edm = edm_loss(estimate, clean, sigma, 0.5, u, given)
    assert float(loss) == pytest.approx(float(torch.cat(terms).mean()), rel=1e-5)
    assert float(edm) == pytest.approx(float(torch.cat(errors).mean()), rel=1e-5)


def test_given_region_is_ignored_even_when_it_is_not_finite() -> None:
    clean, estimate, sigma, given = batch()
    before = edm_loss(estimate, clean, sigma, 0.5, None, given)[0]
    changed = torch.where(given, torch.full_like(estimate, math.inf), estimate)
    assert torch.equal(before, edm_loss(changed, clean, sigma, 0.5, None, given)[0])


def test_optimal_uncertainty_is_the_log_of_the_error() -> None:
    clean, estimate, sigma, _ = batch()
    sigma = sigma[:1].expand(3)
    _, edm = edm_loss(estimate, clean, sigma, 0.5, None, None)
    u = edm.log().expand(3).clone().requires_grad_(True)
    edm_loss(estimate, clean, sigma, 0.5, u, None)[0].backward()
    assert u.grad is not None and float(u.grad.sum()) == pytest.approx(0, abs=1e-6)


def test_nothing_to_generate() -> None:
    clean, estimate, sigma, _ = batch()
    with pytest.raises(ValueError, match="nothing is generated"):
        edm_loss(estimate, clean, sigma, 0.5, None, torch.ones(3, 1, 4, 1, 1, dtype=torch.bool))


def test_uncertainty_network_has_the_release_keys() -> None:
    net = uncertainty_network()
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes == {"0.freqs": (128,), "0.phases": (128,), "1.weight": (1, 128)}
    features = net[0](torch.randn(4096))
    assert float(features.square().mean()) == pytest.approx(1.0, abs=0.05)
