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
    numbers = values.astype(np.float64).reshape(len(values), *(values.shape[1:] or (1,)))
    quantiles = np.quantile(numbers, list(QUANTILES.values()), axis=0)
    return {
        "min": numbers.min(0), "max": numbers.max(0), "mean": numbers.mean(0),
        "std": numbers.std(0), "count": np.array([len(values)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }  # fmt: skip


def picture_stats(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Of uint8 ``t h w c``, by channel; exact, from counts of the 256 values."""
    at = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_PICTURES)).round())
    chosen = frames[at.astype(int)]
    channels = [_counted(np.bincount(channel.ravel(), minlength=256)) for channel in chosen.T]
    stats = {
        name: np.array([channel[name] for channel in channels]).reshape(-1, 1, 1)
        for name in channels[0]
    }
    return {**stats, "count": np.array([len(chosen)])}


def _counted(counts: np.ndarray) -> dict[str, float]:
    """Of a channel; quantiles between two ranks are interpolated, as numpy does."""
    levels, total, up_to = np.arange(256) / 255.0, int(counts.sum()), counts.cumsum()
    mean = float(counts @ levels) / total
    present = levels[counts > 0]
    ranks = np.array(list(QUANTILES.values())) * (total - 1)
    below, above = (
        levels[np.searchsorted(up_to, side, side="right")]
        for side in (np.floor(ranks), np.ceil(ranks))
    )
    quantiles = below + (above - below) * (ranks - np.floor(ranks))
    return {
        "min": float(present[0]), "max": float(present[-1]), "mean": mean,
        "std": float(np.sqrt(counts @ (levels - mean) ** 2 / total)),
        **dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
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
