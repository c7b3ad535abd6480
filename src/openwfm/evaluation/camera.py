"""Does a camera world follow its camera? Paths read back out of its films, beside floors, and the
gauge of obedience: what a wrong camera costs (arXiv 2501.03575, section 6.1).

Floors are the real films and those through the tokenizer: no world's path can be read better.
Controls are the same world without a camera, and the base it was trained from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from openwfm.data.batch import VideoBatch
from openwfm.diffusion.control import Controls
from openwfm.diffusion.model import DiffusionWorldModel, StepDraws
from openwfm.evaluation.camera_recovery import recover_path
from openwfm.evaluation.metrics import Interval
from openwfm.evaluation.metrics.poses import rotation_error, translation_error
from openwfm.evaluation.table import Scores, plain_intervals
from openwfm.posttraining.action import shifted
from openwfm.randomness import derive_seed, fingerprint, torch_generator
from openwfm.video import to_uint8
from openwfm.world import Sampling, World
from openwfm.world.camera import CameraWorld

REAL, CEILING = "real film", "film through the tokenizer"
WORLD, OTHER, BLIND = "world", "world on another clip's path", "world without a camera"
BASE = "base"
WRONG = ("another clip's camera", "no camera", "camera four frames late")
LATE = 4
DRAWS = 4  # noise levels a clip's loss is the mean over
MIN_TRAVEL = 0.2  # metres below which a path has no shape to compare


@dataclass(frozen=True, kw_only=True)
class CameraReport:
    """Errors are over the clips whose path could be read; ``read`` and ``mapped`` are the shares
    that could. ``gaps``: loss under a wrong camera minus that under the right one."""

    num_clips: int
    rows: dict[str, dict[str, Interval]]
    ratios: dict[str, dict[str, Any]]
    losses: dict[str, Interval]
    gaps: dict[str, Interval]
    scores: Scores
    films: dict[str, Float[Tensor, "b c t h w"]]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "camera",
            "num_clips": self.num_clips,
            "rows": plain_intervals(self.rows),
            "ratios": self.ratios,
            **plain_intervals({"losses": self.losses, "gaps": self.gaps}),
        }


def evaluate_camera(
    world: CameraWorld,
    batches: Iterable[VideoBatch],
    *,
    base: World | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    mapping: bool = True,
    progress: bool = False,
) -> CameraReport:
    """Batches of clips with video and cameras. Raises ValueError for others."""
    scores, losses = Scores(), Scores()
    films: dict[str, Tensor] = {}
    sampling = sampling or Sampling()
    for number, batch in enumerate(tqdm(batches, desc="camera", disable=not progress)):
        controls, video = _controls(batch), batch.video
        assert video is not None
        order = (torch.arange(len(batch)) + 1) % len(batch)
        paths = {REAL: controls, CEILING: controls, WORLD: controls, OTHER: controls.rows(order)}
        made = {REAL: video, CEILING: world.reconstruct(video)}
        blind = replace(controls, dropped=True)
        films_of: dict[str, World] = {
            WORLD: world.along(controls),
            OTHER: world.along(paths[OTHER]),
            BLIND: world.along(blind),
            **({} if base is None else {BASE: base}),
        }
        for name, filmed in films_of.items():
            made[name] = _film(filmed, batch, derive_seed(seed, "camera", number), sampling)
            paths.setdefault(name, controls)
        scores.keys += batch.key
        losses.keys += batch.key
        for name, clips in made.items():
            for metric, values in read_errors(clips, paths[name], seed, mapping).items():
                scores.add(name, metric, values)
        for name, values in clip_losses(world.model, world, batch, seed).items():
            losses.add(name, "loss", values)
        if not films:
            films = made
    if not scores.keys:
        raise ValueError("camera: no clips to evaluate")
    right = "the right camera"
    return CameraReport(
        num_clips=len(scores.keys),
        rows=scores.intervals(seed),
        ratios=ratios(scores),
        losses={name: losses.interval(name, "loss", seed) for name in losses.values},
        gaps={name: losses.difference(name, right, "loss", seed) for name in WRONG},
        scores=scores,
        films=films,
    )


def _controls(batch: VideoBatch) -> Controls:
    if batch.video is None or batch.intrinsics is None or batch.camera_to_world is None:
        raise ValueError(f"batch {batch.key[:1]}: needs video and camera (data.truths=[camera])")
    return Controls.of(batch, (int(batch.video.shape[-2]), int(batch.video.shape[-1])))


def _film(world: World, batch: VideoBatch, seed: int, sampling: Sampling) -> Tensor:
    assert batch.video is not None
    return world.predict(
        batch.video[:, :, :1],
        text=None,
        num_frames=batch.video.shape[2],
        fps=batch.fps,
        seed=seed,
        sampling=sampling,
    )


def read_errors(
    clips: Float[Tensor, "b c t h w"], path: Controls, seed: int, mapping: bool = True
) -> dict[str, Tensor]:
    """Of every clip: degrees of rotation error (two-view chain), the same and the share of the
    path's length of translation error (mapping), and whether each could be read; NaN if not."""
    assert path.intrinsics is not None and path.camera_to_world is not None
    names = ("rotation", "read", "mapped_rotation", "mapped_translation", "mapped")
    found: dict[str, list[float]] = {name: [] for name in names}
    for clip, lens, poses in zip(clips, path.intrinsics, path.camera_to_world, strict=True):
        frames, true = to_uint8(clip).numpy(), poses.double().numpy()
        travel = float(np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum())
        asked = mapping and travel >= MIN_TRAVEL
        read = recover_path(frames, lens[0].double().numpy(), seed=seed, mapping=asked)
        turns, seen = true[list(read.hops)], true[list(read.frames)]
        values = dict.fromkeys(names, float("nan"))
        values["read"] = float(read.turns is not None)
        if read.turns is not None:
            values["rotation"] = rotation_error(read.turns, turns[:, :3, :3])
        if asked:
            values["mapped"] = float(read.poses is not None)
        if read.poses is not None:
            values["mapped_rotation"] = rotation_error(read.poses[:, :3, :3], seen[:, :3, :3])
            values["mapped_translation"] = translation_error(read.poses, seen)
        for name in names:
            found[name].append(values[name])
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}


def ratios(scores: Scores) -> dict[str, dict[str, Any]]:
    """Mean rotation error of the world over a control's, on the clips where both could be read."""
    found: dict[str, dict[str, Any]] = {}
    own = np.array(scores.values[WORLD]["rotation"])
    for control in (BLIND, BASE):
        if control in scores.values:
            other = np.array(scores.values[control]["rotation"])
            both = np.isfinite(own) & np.isfinite(other)
            share = float(own[both].mean() / other[both].mean()) if both.any() else None
            found[control] = {"rotation": share, "num_clips": int(both.sum())}
    return found


@torch.no_grad()
def clip_losses(
    model: DiffusionWorldModel, world: CameraWorld, batch: VideoBatch, seed: int
) -> dict[str, Tensor]:
    """The weighted squared error of every clip under right and wrong cameras, equal noise."""
    assert batch.video is not None and batch.camera_to_world is not None
    controls = _controls(batch)
    latents = world.tokenizer.encode(batch.video.to(world.device))
    late = replace(controls, camera_to_world=shifted(batch.camera_to_world.flatten(2), LATE))
    assert late.camera_to_world is not None
    late = replace(late, camera_to_world=late.camera_to_world.unflatten(2, (4, 4)))
    order = (torch.arange(len(batch)) + 1) % len(batch)
    variants: Mapping[str, tuple[Controls, bool]] = {
        "the right camera": (controls, True),
        WRONG[0]: (controls.rows(order), True),
        WRONG[1]: (controls, False),
        WRONG[2]: (late, True),
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    for row, key in enumerate(batch.key):
        one = latents[row : row + 1].expand(DRAWS, -1, -1, -1, -1)
        generator = torch_generator(seed, "camera/loss", fingerprint((key,)))
        draws = model.draw(one.shape, generator)
        for name, (wrong, keep) in variants.items():
            used: StepDraws = replace(draws, keep_control=torch.full((DRAWS,), keep))
            _, edm = model.loss(
                one, used, text=None, fps=batch.fps[row].expand(DRAWS),
                controls=wrong.rows([row] * DRAWS),
            )  # fmt: skip
            found[name].append(float(edm))
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}
