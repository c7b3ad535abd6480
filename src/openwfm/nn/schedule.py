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


def warmup_cosine(
    optimizer: Optimizer, *, warmup_steps: int, max_steps: int, final_fraction: float = 0.0
) -> LambdaLR:
    """Raises ValueError when the warm-up is not shorter than the run."""
    if not 0 <= warmup_steps < max_steps:
        raise ValueError(
            f"scheduler.warmup_steps={warmup_steps}: must be in 0..max_steps-1 "
            f"(max_steps={max_steps})"
        )
    if not 0 <= final_fraction <= 1:
        raise ValueError(f"scheduler.final_fraction={final_fraction}: must be in [0, 1]")
    return LambdaLR(
        optimizer,
        lambda step: warmup_cosine_factor(
            step, warmup_steps=warmup_steps, max_steps=max_steps, final_fraction=final_fraction
        ),
    )


def linear_to_zero(optimizer: Optimizer, *, warmup_steps: int, max_steps: int) -> LambdaLR:
    """A cool-down: linear from 1/warmup to 1, then linear to 0 at ``max_steps``.

    Raises ValueError when the warm-up is not shorter than the run.
    """
    if not 0 <= warmup_steps < max_steps:
        raise ValueError(
            f"scheduler.warmup_steps={warmup_steps}: must be in 0..max_steps-1 "
            f"(max_steps={max_steps})"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return max(0.0, (max_steps - step) / (max_steps - warmup_steps))

    return LambdaLR(optimizer, factor)
