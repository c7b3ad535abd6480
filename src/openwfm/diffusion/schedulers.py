"""Schedulers of diffusers behind ``denoise(x, sigma) -> x0``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from openwfm.diffusion.config import SamplerConfig
from openwfm.extras import require

if TYPE_CHECKING:
    from openwfm.diffusion.precondition import Denoise


def edm_scheduler(config: SamplerConfig) -> Any:
    """The scheduler that ``config.scheduler`` names, with the sigma range of ``config``."""
    diffusers = require("diffusers", extra="diffusers")
    kind = getattr(diffusers, str(config.scheduler))
    return kind(sigma_min=config.sigma_min, sigma_max=config.sigma_max, rho=config.rho)


def run_scheduler(
    denoise: Denoise,
    noise: Float[Tensor, "b z f y x"],
    scheduler: Any,
    num_steps: int,
    *,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Float[Tensor, "b z f y x"]:
    """Sample with any scheduler whose states are x0 plus noise, up to a factor: EDM's own, those in
    sigma (Euler, Heun, LMS) and those that keep the variance (DPM-Solver, UniPC, DDIM).

    Raises ValueError for others: flow matching starts from noise alone, where sigma is infinite.
    ``generator`` is for the stochastic ones.
    """
    name = type(scheduler).__name__
    if "FlowMatch" in name or hasattr(scheduler, "sigmas_interpol"):
        raise ValueError(f"scheduler={name}: must step through x0 + sigma·noise at its own sigmas")
    scheduler.set_timesteps(num_steps, device=noise.device)
    x = noise.float() * float(scheduler.init_noise_sigma)
    random = {} if generator is None else {"generator": generator}
    steps = tqdm(scheduler.timesteps, desc="sample", unit="step", disable=not progress)
    for t in steps:
        scheduler.scale_model_input(x, t)  # some classes find their place in this call
        sigma = _sigma(scheduler, t)
        alpha = 1.0 if _explodes(scheduler) else (1 + sigma**2) ** -0.5
        exploding = x / alpha
        level = torch.full((1,), sigma, dtype=torch.float32, device=x.device)
        clean = denoise(exploding, level).float()
        output = _as_predicted(scheduler, exploding, clean, sigma)
        x = scheduler.step(output, t, x, **random).prev_sample
    return x


def _explodes(scheduler: Any) -> bool:
    """Whether states are x0 + sigma·noise, and not that over sqrt(1 + sigma²)."""
    return hasattr(scheduler, "precondition_outputs") or float(scheduler.init_noise_sigma) > 1


def _sigma(scheduler: Any, t: Tensor) -> float:
    if not hasattr(scheduler, "sigmas"):
        kept = float(scheduler.alphas_cumprod[int(t)])
        return ((1 - kept) / kept) ** 0.5
    if scheduler.step_index is None:
        scheduler._init_step_index(t)
    return float(scheduler.sigmas[scheduler.step_index])


def _as_predicted(scheduler: Any, x: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """x0 in the form that the scheduler expects of its network; ``x`` is x0 + sigma·noise."""
    if hasattr(scheduler, "precondition_outputs"):  # x0 = skip·x + out·F: solve for F
        level, zero = scheduler.sigmas[scheduler.step_index], torch.zeros_like(x)
        out = scheduler.precondition_outputs(zero, torch.ones_like(x), level)
        return (clean - scheduler.precondition_outputs(x, zero, level)) / out
    kind = scheduler.config.prediction_type
    noise, alpha = (x - clean) / sigma, (1 + sigma**2) ** -0.5
    forms = {"epsilon": noise, "sample": clean, "v_prediction": alpha * (noise - sigma * clean)}
    if kind not in forms:
        raise ValueError(f"prediction_type={kind}: must be one of {', '.join(forms)}")
    return forms[kind]
