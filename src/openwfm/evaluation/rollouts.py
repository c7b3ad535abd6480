"""Does an action world follow its actions? Roll-outs on held-out episodes, beside what costs
nothing, and with actions that are wrong on purpose (arXiv 2501.03575, section 6.2).

The gap between right and wrong actions is the gauge of obedience: a world that ignores its
actions has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.evaluation.metrics import (
    Interval,
    bootstrap_interval,
    masked_psnr,
    moving_pixels,
    psnr,
)
from openwfm.evaluation.table import plain_intervals
from openwfm.posttraining.action import shifted
from openwfm.world.action import ActionWorld

WORLD, COPY, CEILING = "world", "copy last frame", "tokenizer reconstruction"
WRONG = ("actions of another clip", "mean actions", "actions two steps late")
METRICS = ("psnr", "moving_psnr")


@dataclass(frozen=True, kw_only=True)
class RolloutReport:
    """Means over the steps of a roll-out; ``by_step`` holds them step by step. ``gaps`` are the
    world's with right actions minus each other row's, clip by clip."""

    num_clips: int
    steps: int
    rows: dict[str, dict[str, Interval]]
    gaps: dict[str, dict[str, Interval]]
    by_step: dict[str, list[float]]
    examples: dict[str, Float[Tensor, "b c t h w"]]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "rollouts",
            "num_clips": self.num_clips,
            "steps": self.steps,
            "rows": plain_intervals(self.rows),
            "gaps": plain_intervals(self.gaps),
            "moving_psnr_by_step": self.by_step,
        }

    @property
    def obeys(self) -> bool:
        """Whether right actions beat those of another clip, with confidence."""
        return self.gaps[WRONG[0]]["moving_psnr"].low > 0


def evaluate_rollouts(
    world: ActionWorld, batches: Iterable[VideoBatch], *, given: int = 2, seed: int = 0
) -> RolloutReport:
    """Batches of clips with ``action``; ``given`` frames begin each. The rest is rolled out.

    Raises ValueError for batches without actions, or no clip at all.
    """
    values: dict[str, dict[str, list[np.ndarray]]] = {}
    steps_of: dict[str, list[np.ndarray]] = {}
    keys: list[str] = []
    examples: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        if batch.video is None or batch.action is None:
            raise ValueError(
                f"batch {batch.key[:1]}: needs video and action (data.truths=[action])"
            )
        video, frames = batch.video, batch.video[:, :, :given]
        future, actions = video[:, :, given:], batch.action[:, given - 1 :]
        rows = _rows(world, frames, future, actions, seed=seed + number)
        moving = moving_pixels(future, frames[:, :, -1])
        for name, made in rows.items():
            row = values.setdefault(name, {metric: [] for metric in METRICS})
            row["psnr"].append(psnr(made, future).numpy())
            row["moving_psnr"].append(masked_psnr(made, future, moving).numpy())
            each = [
                masked_psnr(made[:, :, i : i + 1], future[:, :, i : i + 1], moving[:, i : i + 1])
                for i in range(future.shape[2])
            ]
            steps_of.setdefault(name, []).append(torch.stack(each, 1).numpy())
        if not examples:
            examples = {"real": future, **rows}
        keys += batch.key
    if not keys:
        raise ValueError("rollouts: no clips to evaluate")
    table = {n: {m: np.concatenate(parts) for m, parts in row.items()} for n, row in values.items()}
    return RolloutReport(
        num_clips=len(keys),
        steps=steps_of[WORLD][0].shape[1],
        rows={n: {m: _interval(v, keys, seed) for m, v in row.items()} for n, row in table.items()},
        gaps={
            n: {m: _interval(table[WORLD][m] - v, keys, seed) for m, v in row.items()}
            for n, row in table.items()
            if n != WORLD
        },
        by_step={
            n: [float(x) for x in np.nanmean(np.concatenate(parts), axis=0)]
            for n, parts in steps_of.items()
        },
        examples=examples,
    )


def _rows(
    world: ActionWorld, frames: Tensor, future: Tensor, actions: Tensor, *, seed: int
) -> dict[str, Tensor]:
    """Futures by name; all roll-outs share their noise."""
    mean = torch.tensor(world.action.mean).expand_as(actions)
    wrong = (actions.roll(1, 0), mean, shifted(actions, 2))
    rows = {WORLD: world.rollout(frames, actions, seed=seed)}
    for name, other in zip(WRONG, wrong, strict=True):
        rows[name] = world.rollout(frames, other, seed=seed)
    rows[COPY] = frames[:, :, -1:].expand_as(future)
    rows[CEILING] = world.reconstruct(future)
    return rows


def _interval(values: np.ndarray, keys: list[str], seed: int) -> Interval:
    """Over clips; those in which nothing moves have no value."""
    known = np.isfinite(values)
    groups = [key for key, ok in zip(keys, known, strict=True) if ok]
    return bootstrap_interval(values[known], groups=groups, seed=seed)
