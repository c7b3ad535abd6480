"""Scores of clips, collected per row and metric, and boiled down to intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from openwfm.evaluation.metrics import Interval, bootstrap_interval
from openwfm.files import write_text


@dataclass
class Scores:
    """``values[row][metric]`` has one number per clip of ``keys``; NaN where it does not exist."""

    keys: list[str] = field(default_factory=list)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, row: str, metric: str, values: Tensor) -> None:
        self.values.setdefault(row, {}).setdefault(metric, []).extend(values.tolist())

    def interval(self, row: str, metric: str, seed: int) -> Interval:
        return self._interval(self.values[row][metric], seed)

    def difference(self, row: str, other: str, metric: str, seed: int) -> Interval:
        """Of ``row`` minus ``other`` on the same clips."""
        pairs = zip(self.values[row][metric], self.values[other][metric], strict=True)
        return self._interval([a - b for a, b in pairs], seed)

    def intervals(self, seed: int) -> dict[str, dict[str, Interval]]:
        return {
            row: {metric: self.interval(row, metric, seed) for metric in metrics}
            for row, metrics in self.values.items()
        }

    def _interval(self, values: Sequence[float], seed: int) -> Interval:
        pairs = zip(self.keys, values, strict=True)
        kept = [(key, value) for key, value in pairs if not math.isnan(value)]
        return bootstrap_interval(
            np.array([value for _, value in kept]), groups=[key for key, _ in kept], seed=seed
        )

    def write_csv(self, path: Path) -> None:
        """One line per clip, one column per row and metric."""
        columns = {
            f"{row}/{metric}": values
            for row, metrics in self.values.items()
            for metric, values in metrics.items()
        }
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["clip", *columns])
        for index, key in enumerate(self.keys):
            writer.writerow([key, *(f"{values[index]:.4f}" for values in columns.values())])
        write_text(path, text.getvalue())


def plain_intervals(
    rows: Mapping[str, Mapping[str, Interval]],
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """For JSON, which has no NaN: None where there is no interval."""
    return {
        row: {metric: plain_interval(interval) for metric, interval in metrics.items()}
        for row, metrics in rows.items()
    }


def plain_interval(interval: Interval) -> dict[str, float | int | None]:
    return {
        "mean": finite(interval.mean),
        "low": finite(interval.low),
        "high": finite(interval.high),
        "num_values": interval.num_values,
        "num_groups": interval.num_groups,
    }


def finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
