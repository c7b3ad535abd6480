"""How a few-step student is distilled, as checked values."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig:
    """Consistency distillation (arXiv 2303.01469, algorithm 2) on the grid of an EDM sampler.

    The path from ``sigma_max`` to 0 has ``min_steps`` steps at first; their number doubles at even
    intervals of the ``schedule_steps`` optimiser steps, up to ``max_steps`` (arXiv 2310.14189,
    section 3.4). ``guidance`` is the teacher's. ``huber`` is the distance, in units of normalised
    latents, below which the loss is quadratic. The target is the student averaged with
    ``target_decay``; 0 is the student itself, without gradient.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    guidance: float = 0.0
    min_steps: int = 8
    max_steps: int = 32
    schedule_steps: int = 1000
    target_decay: float = 0.95
    huber: float = 0.00054

    def __post_init__(self) -> None:
        for name in ("sigma_min", "rho", "huber", "schedule_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"consistency.{name}={getattr(self, name)}: must be positive")
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"consistency.sigma_min={self.sigma_min}: must be below sigma_max={self.sigma_max}"
            )
        if self.guidance < 0:
            raise ValueError(f"consistency.guidance={self.guidance}: must not be negative")
        if not 0 <= self.target_decay < 1:
            raise ValueError(f"consistency.target_decay={self.target_decay}: must be in [0, 1)")
        if self.min_steps < 2:
            raise ValueError(f"consistency.min_steps={self.min_steps}: must be at least 2")
        doublings = math.log2(self.max_steps / self.min_steps) if self.max_steps > 0 else -1.0
        if doublings < 0 or not doublings.is_integer():
            raise ValueError(
                f"consistency.max_steps={self.max_steps}: must be min_steps={self.min_steps} "
                "doubled a whole number of times"
            )

    @property
    def num_doublings(self) -> int:
        return round(math.log2(self.max_steps / self.min_steps))
