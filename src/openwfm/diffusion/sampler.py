"""Solvers of the probability-flow ODE. They see ``denoise(x, sigma) -> x0`` and nothing else."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.noise import sigma_grid
from openwfm.diffusion.precondition import Denoise


def guided(denoise: Denoise, guidance: float) -> Denoise:
    """Classifier-free guidance of a denoiser whose condition is [conditional; unconditional]."""

    def run(x: Tensor, sigma: Tensor) -> Tensor:
        conditional, unconditional = denoise(torch.cat((x, x)), sigma).chunk(2)
        return conditional + guidance * (conditional - unconditional)

    return run


def solver_sigmas(config: SamplerConfig) -> list[float]:
    """The levels at which x0 is evaluated: num_steps, or one more for the multistep solver.

    After the last, the sample is x0 itself (a step to zero), as in the releases.
    """
    points = config.num_steps + (config.kind == "res_2ab")
    return sigma_grid(
        points, sigma_min=config.sigma_min, sigma_max=config.sigma_max, rho=config.rho
    )


def sample(
    denoise: Denoise,
    noise: Float[Tensor, "b z f y x"],
    config: SamplerConfig,
    *,
    progress: bool = False,
) -> Float[Tensor, "b z f y x"]:
    """Integrate unit ``noise`` from sigma_max down to a sample; the state is fp32."""
    step = {"euler": _euler, "heun": _heun, "res_2ab": _res_2ab}[config.kind]
    sigmas = solver_sigmas(config)
    x = noise.float() * sigmas[0]
    previous: tuple[Tensor, float] | None = None
    pairs = list(zip(sigmas, [*sigmas[1:], 0.0], strict=True))
    if config.final == "sigma_min":
        pairs.pop()
    for sigma, target in tqdm(pairs, desc="sample", unit="step", disable=not progress):
        clean = denoise(x, _level(sigma, x)).float()
        x = clean if target == 0 else step(denoise, x, clean, sigma, target, previous)
        previous = (clean, sigma)
    return x


def _level(sigma: float, x: Tensor) -> Tensor:
    return torch.full((1,), sigma, dtype=torch.float32, device=x.device)


def _euler(
    denoise: Denoise,
    x: Tensor,
    clean: Tensor,
    sigma: float,
    target: float,
    previous: tuple[Tensor, float] | None,
) -> Tensor:
    """EDM, algorithm 1 without churn and correction: x moves along (x - x0)/sigma."""
    return torch.lerp(clean, x, target / sigma)


def _heun(
    denoise: Denoise,
    x: Tensor,
    clean: Tensor,
    sigma: float,
    target: float,
    previous: tuple[Tensor, float] | None,
) -> Tensor:
    """EDM, algorithm 1: the slope is the mean of those at both ends."""
    slope = (x - clean) / sigma
    reached = x + (target - sigma) * slope
    other = (reached - denoise(reached, _level(target, x)).float()) / target
    return x + (target - sigma) * 0.5 * (slope + other)


def _res_2ab(
    denoise: Denoise,
    x: Tensor,
    clean: Tensor,
    sigma: float,
    target: float,
    previous: tuple[Tensor, float] | None,
) -> Tensor:
    """Second-order exponential multistep (RES, arXiv 2308.02157): reuses the last x0."""
    if previous is None:
        return torch.lerp(clean, x, target / sigma)
    last, last_sigma = previous
    h = math.log(sigma / target)
    c2 = math.log(sigma / last_sigma) / h
    phi_1 = math.expm1(-h) / -h
    phi_2 = (phi_1 - 1) / -h
    b2 = phi_2 / c2
    return (target / sigma) * x + h * ((phi_1 - b2) * clean + b2 * last)
