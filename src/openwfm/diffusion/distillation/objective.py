"""Consistency distillation: a student maps every point of the teacher's path to the path's end.

EDM preconditioning is the identity at sigma 0 (c_skip = 1, c_out = 0), so the boundary condition
f(x, 0) = x holds for every network, and the student is an ordinary denoiser: it is published, read
and sampled like its teacher.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openwfm.diffusion.distillation.config import ConsistencyConfig
from openwfm.diffusion.noise import sigma_grid
from openwfm.diffusion.precondition import Coefficients, Denoise


def steps_at(step: int, config: ConsistencyConfig) -> int:
    """Steps of the path at optimiser step ``step``: doubled at even intervals, then constant."""
    doublings = step * (config.num_doublings + 1) // config.schedule_steps
    return int(config.min_steps) * 2 ** min(doublings, config.num_doublings)


def path_levels(num_steps: int, config: ConsistencyConfig) -> Float[Tensor, " n"]:
    """``num_steps`` + 1 falling noise levels, those of an Euler sampler of as many steps; fp32.

    The last is 0, which the sampler reaches by taking x0 itself.
    """
    grid = sigma_grid(
        num_steps, sigma_min=config.sigma_min, sigma_max=config.sigma_max, rho=config.rho
    )
    return torch.tensor([*grid, 0.0], dtype=torch.float32)


def level_index(
    sigma: Float[Tensor, " b"], num_steps: int, *, p_mean: float, p_std: float
) -> Int[Tensor, " b"]:
    """Where on the path to train: uniform in {0 .. num_steps - 1}.

    ``sigma`` is what a training step draws anyway, log-normal; its quantile is uniform.
    """
    quantile = torch.special.ndtr((sigma.double().log() - p_mean) / p_std)
    return (quantile * num_steps).long().clamp(0, num_steps - 1)


def pseudo_huber(
    difference: Float[Tensor, "b z f y x"],
    given: Bool[Tensor, "b 1 f 1 1"] | None,
    scale: float,
) -> Float[Tensor, " b"]:
    """√(r² + scale²) - scale, r the root mean square over a sample's *generated* elements; fp32.

    Quadratic near 0, linear far from it (arXiv 2310.14189, equation 7, whose norm is a sum: its
    0.00054·√d is 0.00054 here). Raises ValueError when nothing of a sample is generated.
    """
    square = difference.float().square()
    frames = torch.full((len(square),), float(square.shape[2]), device=square.device)
    if given is not None:
        square = square.masked_fill(given, 0.0)
        frames = (~given).flatten(1).sum(dim=1).float()
    if not bool((frames > 0).all()):
        raise ValueError("condition: every frame of a clip is given, so nothing is generated")
    elements = frames * square.shape[1] * square.shape[3] * square.shape[4]
    return (square.flatten(1).sum(dim=1) / elements + scale**2).sqrt() - scale


def consistency_loss(
    student: Denoise,
    target: Denoise,
    teacher: Denoise,
    clean: Float[Tensor, "b z f y x"],
    noise: Float[Tensor, "b z f y x"],
    sigma: Float[Tensor, " b"],
    lower: Float[Tensor, " b"],
    given: Bool[Tensor, "b 1 f 1 1"] | None,
    *,
    sigma_data: float,
    huber: float,
) -> Float[Tensor, ""]:
    """Mean of pseudo_huber(student(x, sigma) - target(below, lower)) / c_out(sigma).

    ``below`` is one Euler step of the ``teacher`` from x = clean + sigma·noise to ``lower``, the
    next level of the path; at 0 it is its own target. Dividing by c_out makes the gradient on
    the raw network F alike at all levels, as the weight of the EDM loss does. The paper's weight,
    1 / (sigma - lower), gives the levels where a few-step sampler starts next to none.
    Gradients reach the ``student`` alone.
    """
    noisy = clean + sigma.view(-1, 1, 1, 1, 1) * noise
    with torch.no_grad():
        ratio = (lower / sigma).view(-1, 1, 1, 1, 1)
        below = torch.lerp(teacher(noisy, sigma).float(), noisy, ratio)
        last = lower == 0
        # The network takes ln(sigma), so a sample at 0 is evaluated elsewhere and not used.
        reached = target(below, torch.where(last, sigma, lower)).float()
        goal = torch.where(last.view(-1, 1, 1, 1, 1), below, reached)
    distance = pseudo_huber(student(noisy, sigma) - goal, given, huber)
    weight = 1 / Coefficients.at(sigma, sigma_data).out.flatten()
    return (weight * distance).mean()
