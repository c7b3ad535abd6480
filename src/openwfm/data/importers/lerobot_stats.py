"""The statistics that a LeRobot dataset carries, of an episode and of all of them.

As ``lerobot/datasets/compute_stats.py`` of 0.4.4 has them: of columns over the frames, of pictures
for each channel in [0, 1] with shape ``3 1 1``. Quantiles of an episode are exact here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Stats = Mapping[str, np.ndarray]
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MAX_PICTURES = 100  # evenly spaced frames of an episode; lerobot looks at about as many


def column_stats(values: np.ndarray) -> dict[str, np.ndarray]:
    """Of ``t …``, over t; single numbers keep one axis."""
    numbers = values.astype(np.float64)
    return _stats(numbers[:, None] if numbers.ndim == 1 else numbers, len(values))


def picture_stats(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Of uint8 ``t h w c``, by channel."""
    at = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_PICTURES)).round())
    chosen = frames[at.astype(int)]
    stats = _stats(chosen.reshape(-1, frames.shape[-1]) / 255.0, len(chosen))
    return {k: v if k == "count" else v.reshape(-1, 1, 1) for k, v in stats.items()}


def _stats(values: np.ndarray, count: int) -> dict[str, np.ndarray]:
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0),
        "count": np.array([count]), **dict(zip(QUANTILES, quantiles, strict=True)),
    }  # fmt: skip


def merge_stats(parts: Sequence[Stats]) -> dict[str, np.ndarray]:
    """Of all episodes together: exact, but for the quantiles, which are means weighted by count
    (as lerobot's are)."""
    counts = np.array([part["count"][0] for part in parts], np.float64)

    def mean(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.average(np.stack(values), axis=0, weights=counts)

    total = mean([part["mean"] for part in parts])
    spread = [part["std"] ** 2 + (part["mean"] - total) ** 2 for part in parts]
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": total,
        "std": np.sqrt(mean(spread)),
        "count": np.array([int(counts.sum())]),
        **{name: mean([part[name] for part in parts]) for name in QUANTILES},
    }
