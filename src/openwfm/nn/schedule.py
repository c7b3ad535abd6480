"""Learning-rate schedules counted in steps."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine_factor(
    step: int, *, warmup_steps: int, max_steps: int, final_fraction: float
) -> float:
    """Linear from 1/warmup to 1, then half a cosine down to ``final_fraction`` at ``max_steps``."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_constant_factor(step: int, *, warmup_steps: int) -> float:
    """Linear from 1/warmup to 1, then 1 (arXiv 2501.03575, table 11: 2500 steps)."""
    return min(1.0, (step + 1) / max(1, warmup_steps))


def cooldown_factor(
    step: int, *, warmup_steps: int, max_steps: int, final_fraction: float
) -> float:
    """Linear from 1/warmup to 1, then linear down to ``final_fraction`` at ``max_steps``, and no
    lower (arXiv 2501.03575, section 5.1.3, high-quality fine-tuning)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / (max_steps - warmup_steps))
    return 1.0 + (final_fraction - 1.0) * progress


def warmup_cosine(
    optimizer: Optimizer, *, warmup_steps: int, max_steps: int, final_fraction: float = 0.0
) -> LambdaLR:
    """Raises ValueError when the warm-up is not shorter than the run."""
    _check(warmup_steps, max_steps, final_fraction)
    return LambdaLR(
        optimizer,
        lambda step: warmup_cosine_factor(
            step, warmup_steps=warmup_steps, max_steps=max_steps, final_fraction=final_fraction
        ),
    )


def warmup_constant(optimizer: Optimizer, *, warmup_steps: int) -> LambdaLR:
    """For stages that end when the next one begins."""
    if warmup_steps < 0:
        raise ValueError(f"scheduler.warmup_steps={warmup_steps}: must not be negative")
    return LambdaLR(optimizer, lambda step: warmup_constant_factor(step, warmup_steps=warmup_steps))


def cooldown(
    optimizer: Optimizer, *, max_steps: int, warmup_steps: int = 0, final_fraction: float = 0.0
) -> LambdaLR:
    """For the last stage. Raises ValueError when the warm-up is not shorter than the run."""
    _check(warmup_steps, max_steps, final_fraction)
    return LambdaLR(
        optimizer,
        lambda step: cooldown_factor(
            step, warmup_steps=warmup_steps, max_steps=max_steps, final_fraction=final_fraction
        ),
    )


def _check(warmup_steps: int, max_steps: int, final_fraction: float) -> None:
    if not 0 <= warmup_steps < max_steps:
        raise ValueError(
            f"scheduler.warmup_steps={warmup_steps}: must be in 0..max_steps-1 "
            f"(max_steps={max_steps})"
        )
    if not 0 <= final_fraction <= 1:
        raise ValueError(f"scheduler.final_fraction={final_fraction}: must be in [0, 1]")
