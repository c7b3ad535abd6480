"""How fast a run goes, and how much of its time it waits for data."""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import Any

import lightning as L


class Throughput(L.Callback):
    """Logs ``perf/samples_per_second`` (all processes) and ``perf/data_wait_share``.

    Both come from medians over the last ``window`` training steps, so that the occasional step
    that ends in a validation, a sample or a checkpoint does not count.
    """

    def __init__(self, *, window: int = 50) -> None:
        if window < 1:
            raise ValueError(f"callbacks.throughput.window={window}: must be at least 1")
        self._durations: deque[float] = deque(maxlen=window)
        self._waits: deque[float] = deque(maxlen=window)
        self._last_end = 0.0
        self._wait = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_end = time.perf_counter()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._wait = time.perf_counter() - self._last_end

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        now = time.perf_counter()
        self._durations.append(now - self._last_end)
        self._waits.append(self._wait)
        self._last_end = now
        step = median(self._durations)
        values = {
            "perf/samples_per_second": len(batch) * trainer.world_size / step,
            "perf/data_wait_share": min(1.0, median(self._waits) / step),
        }
        pl_module.log_dict(values, batch_size=len(batch))
