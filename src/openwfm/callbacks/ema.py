"""Exponential moving average of the weights, by Lightning's callback, with a warm-up."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def warmup_decay(num_averaged: int, decay: float) -> float:
    """Decay after ``num_averaged`` updates: min(decay, (1 + n) / (10 + n)).

    A fixed 0.999 remembers the initial weights for thousands of steps, which ruins short runs
    (the schedule is that of tf.train.ExponentialMovingAverage's ``num_updates``).
    """
    return min(decay, (1 + num_averaged) / (10 + num_averaged))


def _average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor) -> None:
        weight = 1.0 - warmup_decay(int(num_averaged), decay)
        torch._foreach_lerp_(averaged, current, weight)

    return update


class EMA(WeightAveraging):
    """Averages parameters every ``update_every_n_steps``; buffers are copied, never averaged."""

    def __init__(self, *, decay: float = 0.999, update_every_n_steps: int = 1) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"callbacks.ema.decay={decay}: must be in [0, 1)")
        if update_every_n_steps < 1:
            raise ValueError(
                f"callbacks.ema.update_every_n_steps={update_every_n_steps}: must be at least 1"
            )
        super().__init__(use_buffers=False, multi_avg_fn=_average(decay))
        self.update_every_n_steps = update_every_n_steps

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and (step_idx + 1) % self.update_every_n_steps == 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        with warnings.catch_warnings():
            # Lightning warns that configure_model is called outside the strategy's context; our
            # modules build whole networks there, which is what averaging needs.
            warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback")
            super().setup(trainer, pl_module, stage)


def averaged_module(trainer: L.Trainer, pl_module: L.LightningModule) -> L.LightningModule:
    """The module that holds the averaged weights, or ``pl_module`` when nothing is averaged.

    Not for use inside a validation epoch: Lightning swaps the two sets of weights there.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        averaged = callback._average_model if isinstance(callback, WeightAveraging) else None
        if averaged is not None and int(averaged.n_averaged) > 0:
            assert isinstance(averaged.module, L.LightningModule)
            return averaged.module
    return pl_module
