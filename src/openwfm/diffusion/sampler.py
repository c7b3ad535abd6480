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
from openwfm.diffusion.schedulers import edm_scheduler, run_scheduler


def guidance_at(config: SamplerConfig, sigma: float) -> float:
    """Weight of guidance at a level: 0 outside ``config.guidance_interval``, the ends included."""
    if config.guidance_interval is None:
        return config.guidance
    low, high = config.guidance_interval
    return config.guidance if low <= sigma <= high else 0.0


def guided(denoise: Denoise, guidance: float) -> Denoise:
    """Classifier-free guidance of a denoiser whose condition is [conditional; unconditional]."""

    def run(x: Tensor, sigma: Tensor) -> Tensor:
        conditional, unconditional = denoise(torch.cat((x, x)), sigma).chunk(2)
        return conditional + guidance * (conditional - unconditional)

    return run


def solver_steps(config: SamplerConfig) -> list[tuple[float, float]]:
    """From which level to which each evaluation of x0 takes the sample; to 0 makes it x0 itself.

    The three releases differ in where the grid of N = num_steps ends. ``to_zero`` (predict1's
    inference): N points, then 0. ``repeat_last`` (diffusers' pipelines): N points, of which the
    last is repeated, a step that changes nothing and is left out here: the sample keeps noise of
    sigma_min. ``extra_point`` (the first release, with res_2ab): N + 1 points, then 0.
    """
    grid = config.grid
    if grid == "release":
        grid = "extra_point" if config.kind == "res_2ab" else "to_zero"
    points = config.num_steps + (grid == "extra_point")
    sigmas = sigma_grid(
        points, sigma_min=config.sigma_min, sigma_max=config.sigma_max, rho=config.rho
    )
    ends = [] if grid == "repeat_last" else [0.0]
    return list(zip(sigmas, [*sigmas[1:], *ends], strict=False))


def solver_sigmas(config: SamplerConfig) -> list[float]:
    """The levels at which x0 is evaluated, each once; a scheduler of diffusers has its own."""
    if config.kind == "diffusers":
        return []
    return [sigma for sigma, _ in solver_steps(config)]


def sample(
    denoise: Denoise,
    noise: Float[Tensor, "b z f y x"],
    config: SamplerConfig,
    *,
    progress: bool = False,
) -> Float[Tensor, "b z f y x"]:
    """Integrate unit ``noise`` from sigma_max down to a sample; the state is fp32."""
    if config.kind == "diffusers":
        return run_scheduler(
            denoise, noise, edm_scheduler(config), config.num_steps, progress=progress
        )
    step = {"euler": _euler, "heun": _heun, "res_2ab": _res_2ab}[config.kind]
    pairs = solver_steps(config)
    x = noise.float() * config.sigma_max
    previous: tuple[Tensor, float] | None = None
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
