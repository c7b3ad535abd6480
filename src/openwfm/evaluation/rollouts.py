"""Does an action world follow its actions? Roll-outs on held-out episodes, beside what costs
nothing, and with actions that are wrong on purpose (arXiv 2501.03575, section 6.2).

The gap between right and wrong actions is the gauge of obedience: a world that ignores its
actions has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.diffusion.frames import encode_frames
from openwfm.evaluation.backbones import EfficientNetLite0
from openwfm.evaluation.metrics import (
    Interval,
    bootstrap_interval,
    frame_psnr,
    frame_ssim,
    masked_psnr,
    moving_pixels,
    psnr,
)
from openwfm.evaluation.table import plain_intervals
from openwfm.posttraining.action import shifted
from openwfm.world.action import ActionWorld

WORLD, COPY, CEILING = "world", "copy last frame", "tokenizer reconstruction"
BASE = "base model, no actions"
WRONG = ("actions of another clip", "mean actions", "actions two steps late")
METRICS = ("psnr", "moving_psnr", "ssim", "latent_l2", "features")
# (number of the batch, frames that were made) -> more measures of every step, by name.
Extra = Callable[[int, Float[Tensor, "b c t h w"]], Mapping[str, Float[Tensor, "b t"]]]


@dataclass(frozen=True, kw_only=True)
class RolloutReport:
    """Of a roll-out's steps; ``by_step`` has means step by step, by metric and row. ``gaps`` are
    the world's with right actions minus each other row's, clip by clip.

    ``latent_l2`` is the root mean squared distance of the tokenizer's latents, in their standard
    deviations; ``features`` the distance of EfficientNet-Lite0's; the others are better when high.
    """

    num_clips: int
    steps: int
    rows: dict[str, dict[str, Interval]]
    gaps: dict[str, dict[str, Interval]]
    by_step: dict[str, dict[str, list[float]]]
    examples: dict[str, Float[Tensor, "b c t h w"]]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "rollouts",
            "num_clips": self.num_clips,
            "steps": self.steps,
            "rows": plain_intervals(self.rows),
            "gaps": plain_intervals(self.gaps),
            "by_step": self.by_step,
        }

    @property
    def obeys(self) -> bool:
        """Whether right actions beat those of another clip, with confidence."""
        return self.gaps[WRONG[0]]["moving_psnr"].low > 0


def evaluate_rollouts(
    world: ActionWorld,
    batches: Iterable[VideoBatch],
    *,
    given: int = 2,
    seed: int = 0,
    base: ActionWorld | None = None,
    extra: Extra | None = None,
) -> RolloutReport:
    """Batches of clips with ``action``; ``given`` frames begin each. The rest is rolled out.

    ``base`` is a world that was trained without actions, for a row of its own. Raises ValueError
    for batches without actions, or no clip at all.
    """
    values: dict[str, dict[str, list[np.ndarray]]] = {}
    steps_of: dict[str, dict[str, list[np.ndarray]]] = {}
    keys: list[str] = []
    examples: dict[str, Tensor] = {}
    features = EfficientNetLite0()
    for number, batch in enumerate(batches):
        if batch.video is None or batch.action is None:
            raise ValueError(
                f"batch {batch.key[:1]}: needs video and action (data.truths=[action])"
            )
        video, frames = batch.video, batch.video[:, :, :given]
        future, actions = video[:, :, given:], batch.action[:, given - 1 :]
        rows = _rows(world, base, frames, future, actions, seed=seed + number)
        moving = moving_pixels(future, frames[:, :, -1])
        for name, made in rows.items():
            steps = _steps(world, features, made, future, moving)
            steps |= {} if extra is None else dict(extra(number, made))
            whole = {metric: each.mean(1) for metric, each in steps.items()}
            whole["psnr"] = psnr(made, future)
            whole["moving_psnr"] = masked_psnr(made, future, moving)
            for metric in steps:
                values.setdefault(name, {}).setdefault(metric, []).append(whole[metric].numpy())
                steps_of.setdefault(metric, {}).setdefault(name, []).append(steps[metric].numpy())
        if not examples:
            examples = {"real": future, **rows}
        keys += batch.key
    if not keys:
        raise ValueError("rollouts: no clips to evaluate")
    table = {n: {m: np.concatenate(parts) for m, parts in row.items()} for n, row in values.items()}
    return RolloutReport(
        num_clips=len(keys),
        steps=steps_of[METRICS[0]][WORLD][0].shape[1],
        rows={n: {m: _interval(v, keys, seed) for m, v in row.items()} for n, row in table.items()},
        gaps={
            n: {m: _interval(table[WORLD][m] - v, keys, seed) for m, v in row.items()}
            for n, row in table.items()
            if n != WORLD
        },
        by_step={
            metric: {
                n: [float(x) for x in np.nanmean(np.concatenate(parts), axis=0)]
                for n, parts in rows_of.items()
            }
            for metric, rows_of in steps_of.items()
        },
        examples=examples,
    )


@torch.no_grad()
def _steps(
    world: ActionWorld,
    features: EfficientNetLite0,
    made: Float[Tensor, "b c t h w"],
    future: Float[Tensor, "b c t h w"],
    moving: Tensor,
) -> dict[str, Float[Tensor, "b t"]]:
    """Every step of its own."""
    pictures = [rearrange(x, "b c t h w -> (b t) c 1 h w") for x in (made, future)]
    mask = rearrange(moving, "b t h w -> (b t) 1 h w")
    ours, theirs = (
        world.model.normalise(encode_frames(world.tokenizer, x.to(world.device))).cpu()
        for x in (made, future)
    )
    apart = (ours - theirs).square().mean((1, 3, 4)).sqrt() / world.model.objective.sigma_data
    one = {
        "moving_psnr": masked_psnr(pictures[0], pictures[1], mask),
        "features": features.distance(pictures[0], pictures[1]),
    }
    return {
        "psnr": frame_psnr(made, future),
        "ssim": frame_ssim(made, future),
        "latent_l2": apart,
        **{name: rearrange(v, "(b t) -> b t", b=len(made)) for name, v in one.items()},
    }


def _rows(
    world: ActionWorld,
    base: ActionWorld | None,
    frames: Tensor,
    future: Tensor,
    actions: Tensor,
    *,
    seed: int,
) -> dict[str, Tensor]:
    """Futures by name; all roll-outs share their noise."""
    mean = torch.tensor(world.action.mean).expand_as(actions)
    wrong = (actions.roll(1, 0), mean, shifted(actions, 2))
    rows = {WORLD: world.rollout(frames, actions, seed=seed)}
    for name, other in zip(WRONG, wrong, strict=True):
        rows[name] = world.rollout(frames, other, seed=seed)
    if base is not None:
        rows[BASE] = base.rollout(frames, actions, seed=seed)
    rows[COPY] = frames[:, :, -1:].expand_as(future)
    rows[CEILING] = world.reconstruct(future)
    return rows


def _interval(values: np.ndarray, keys: list[str], seed: int) -> Interval:
    """Over clips; those in which nothing moves have no value."""
    known = np.isfinite(values)
    groups = [key for key, ok in zip(keys, known, strict=True) if ok]
    return bootstrap_interval(values[known], groups=groups, seed=seed)
