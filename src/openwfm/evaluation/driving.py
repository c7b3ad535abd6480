"""Worlds of several views of a drive: do the views agree, does the car go where it is told?

Cross-view and temporal Sampson error, the distance to the trajectory as a probe reads it, and
features per view (arXiv 2501.03575, section 6.3), beside real clips, which are the floor, real
clips through the tokenizer, and views of different clips, which are chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.data.batch import VideoBatch
from openwfm.diffusion import DiffusionWorldModel
from openwfm.diffusion.control import Controls
from openwfm.evaluation.ego_motion import EgoProbe, following_error
from openwfm.evaluation.matching import cross_view_error, temporal_error
from openwfm.evaluation.metrics import Interval, bootstrap_interval
from openwfm.randomness import fingerprint, torch_generator
from openwfm.video import to_uint8

# Neighbours that share 25 of 80 degrees; the rear shares 10 with its own and is left out.
PAIRS = (
    ("front", "front_left"), ("front", "front_right"),
    ("front_left", "rear_left"), ("front_right", "rear_right"),
)  # fmt: skip
EVERY = 4  # frames between those that are matched
Features = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rig:
    """``intrinsics`` and the pose of every view in the axes of the first one; a rigid rig."""

    views: tuple[str, ...]
    intrinsics: Mapping[str, Float[np.ndarray, "3 3"]]
    poses: Mapping[str, Float[np.ndarray, "4 4"]]

    def relative(self, one: str, two: str) -> Float[np.ndarray, "4 4"]:
        """From the axes of ``one`` to those of ``two``."""
        return np.asarray(np.linalg.inv(self.poses[two]) @ self.poses[one])


def pixels(videos: Float[Tensor, "v c t h w"]) -> np.ndarray:
    """uint8 ``v t h w c``."""
    return np.stack([to_uint8(video).numpy() for video in videos])


def cross_view(videos: np.ndarray, rig: Rig, first: int = 1) -> tuple[float, int]:
    """Mean over pairs and frames of the median Sampson error (canvas pixels), and the number of
    matches, of frames ``first`` and later."""
    errors, matches = [], 0
    for one, two in PAIRS:
        cameras = (rig.intrinsics[one], rig.intrinsics[two])
        left, right = (videos[rig.views.index(name)] for name in (one, two))
        for t in range(first + EVERY - 1, len(left), EVERY):
            error, count = cross_view_error(left[t], right[t], cameras, rig.relative(one, two))
            errors.append(error)
            matches += count
    return _mean(errors), matches


def temporal(videos: np.ndarray, first: int = 1) -> tuple[float, int]:
    """The same between frames, of all views, and the number of pairs of frames that counted."""
    errors = [
        temporal_error(video[t], video[t + 1])[0]
        for video in videos
        for t in range(first, videos.shape[1] - 1, 2 * EVERY)
    ]
    return _mean(errors), int(np.isfinite(errors).sum())


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan


def scores_of(
    videos: Float[Tensor, "b v c t h w"],
    *,
    real: Float[Tensor, "b v c t h w"],
    trajectory: Float[Tensor, "b 64 3"],
    rig: Rig,
    probe: EgoProbe,
    features: Features | None,
) -> dict[str, np.ndarray]:
    """Metrics of every clip: ``cse`` and ``tse`` (canvas pixels), ``follow`` (metres), ``matches``,
    ``pairs``, and the feature distance to the real view as ``feature/<view>``."""
    rows: dict[str, list[float]] = {}
    for clip, made in enumerate(videos):
        films = pixels(made)
        cse, matches = cross_view(films, rig)
        tse, pairs = temporal(films)
        follow = following_error(probe.path(films), trajectory[clip].numpy())
        found = {"cse": cse, "matches": matches, "tse": tse, "pairs": pairs, "follow": follow}
        if features is not None:
            gaps = features(made[:, :, 1:], real[clip, :, :, 1:])
            named = zip(rig.views, gaps.tolist(), strict=True)
            found |= {f"feature/{view}": gap for view, gap in named}
        for name, value in found.items():
            rows.setdefault(name, []).append(float(value))
    return {name: np.array(values) for name, values in rows.items()}


def interval(values: np.ndarray, keys: Sequence[str], seed: int = 0) -> Interval:
    """Over clips; those without a value do not count."""
    known = np.isfinite(values)
    groups = [key for key, ok in zip(keys, known, strict=True) if ok]
    return bootstrap_interval(values[known], groups=groups, seed=seed)


@torch.no_grad()
def obedience_gap(
    model: DiffusionWorldModel,
    latents: Float[Tensor, "b z f y x"],
    batch: VideoBatch,
    wrong: Float[Tensor, "b 64 3"],
    *,
    draws: int = 4,
    seed: int = 0,
) -> np.ndarray:
    """Denoising error with ``wrong`` trajectories minus with the right ones, clip by clip, under
    equal noise. Above zero: the world uses its trajectory; zero: it does not look at it."""
    gaps = []
    assert batch.text is not None and batch.trajectory is not None
    for i, key in enumerate(batch.key):
        clean = latents[i : i + 1].expand(draws, -1, -1, -1, -1)
        generator = torch_generator(seed, "obedience", fingerprint((key,)))
        drawn = model.draw(clean.shape, generator)
        drawn = replace(drawn, keep_control=torch.ones(draws, dtype=torch.bool))
        errors = [
            model.loss(
                clean, drawn,
                text=batch.text[i : i + 1].expand(draws, *[-1] * (batch.text.ndim - 1)),
                fps=batch.fps[i : i + 1].expand(draws),
                controls=Controls(trajectory=path[i : i + 1].expand(draws, -1, -1)),
            )[1]
            for path in (wrong, batch.trajectory)
        ]  # fmt: skip
        gaps.append(float(errors[0] - errors[1]))
    return np.array(gaps)


def differences(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    pairs: Sequence[tuple[str, str, str]],
    keys: Sequence[str],
) -> dict[str, Any]:
    """Row minus other row in a metric, on the same clips, with its interval."""
    return {
        f"{metric}: {one} - {two}": interval(rows[one][metric] - rows[two][metric], keys)
        for metric, one, two in pairs
    }
