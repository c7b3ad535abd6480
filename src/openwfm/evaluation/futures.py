"""How good are a world's futures? On held-out clips, beside what costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from openwfm.data.batch import VideoBatch
from openwfm.evaluation.metrics import (
    Interval,
    frame_psnr,
    frame_ssim,
    masked_psnr,
    moving_pixels,
    psnr,
)
from openwfm.evaluation.table import Scores, finite, plain_intervals
from openwfm.randomness import derive_seed
from openwfm.world import Sampling, World

WORLD, COPY = "world model", "copy last frame"
CEILING, MEAN = "tokenizer reconstruction", "mean video"
METRICS = ("psnr", "ssim", "moving_psnr")


@dataclass(frozen=True, kw_only=True)
class FuturesConfig:
    """``condition_latents`` n gives a world the first 1 + ratio·(n - 1) frames of a clip."""

    condition_latents: int = 2
    threshold: float = 0.1
    seed: int = 0
    num_examples: int = 6
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.condition_latents < 1:
            raise ValueError(f"condition_latents={self.condition_latents}: must be at least 1")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold}: must be in (0, 1)")
        if self.num_examples < 0:
            raise ValueError(f"num_examples={self.num_examples}: must not be negative")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A clip and what a world made of its beginning, to look at."""

    key: str
    caption: str
    fps: float
    condition_frames: int
    real: Float[Tensor, "c t h w"]
    made: Float[Tensor, "c t h w"]


@dataclass(frozen=True, kw_only=True)
class FutureReport:
    """Metrics of future frames only. ``num_in`` = ``num_evaluated`` + the number ``rejected``."""

    num_in: int
    num_evaluated: int
    rejected: dict[str, str]
    condition_frames: int
    future_frames: int
    rows: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]
    curves: dict[str, dict[str, list[float]]]
    settings: dict[str, Any]
    scores: Scores
    examples: list[Example]

    def to_json(self) -> dict[str, Any]:
        curves = {
            row: {metric: [finite(value) for value in values] for metric, values in lines.items()}
            for row, lines in self.curves.items()
        }
        return {
            "kind": "futures",
            "num_in": self.num_in,
            "num_evaluated": self.num_evaluated,
            "rejected": self.rejected,
            "condition_frames": self.condition_frames,
            "future_frames": self.future_frames,
            "rows": plain_intervals(self.rows),
            "differences": plain_intervals(self.differences),
            "curves": curves,
            "settings": self.settings,
        }

    @property
    def beats_copy(self) -> bool:
        """Whether the interval of world - copy on moving pixels lies above zero."""
        return self.differences[f"{WORLD} - {COPY}"]["moving_psnr"].low > 0


def evaluate_futures(
    world: World,
    batches: Iterable[VideoBatch],
    config: FuturesConfig,
    *,
    mean_video: Float[Tensor, "c t h w"] | None = None,
    progress: bool = False,
) -> FutureReport:
    """Condition on the first frames of every clip, predict the rest, compare with the truth.

    ``mean_video`` is the mean of training clips, frame by frame. Moving pixels are chosen by the
    truth (see `openwfm.evaluation.metrics.moving_pixels`); clips without any do not count there.
    Rejected, with the reason, are clips whose pixels or predictions are not finite.
    Raises ValueError when there is no clip, or none that leaves a future.
    """
    given = int(world.facts.temporal.frames(config.condition_latents))
    collected = _Collected(config=config, given=given)
    for number, batch in enumerate(tqdm(batches, desc="evaluate", disable=not progress)):
        if batch.video is None:
            raise ValueError(f"batch {number}: has no video to compare with")
        collected.num_in += len(batch)
        if batch.video.shape[2] <= given:
            raise ValueError(
                f"condition_latents={config.condition_latents}: takes {given} frames; nothing is "
                f"left to predict of clips with {batch.video.shape[2]}"
            )
        videos = _predictions(world, batch, config, number, given, mean_video)
        collected.take(batch, videos)
    return collected.report(world)


def _predictions(
    world: World,
    batch: VideoBatch,
    config: FuturesConfig,
    number: int,
    given: int,
    mean_video: Tensor | None,
) -> dict[str, Tensor]:
    """Whole videos by row; only their frames after the condition are looked at."""
    real = batch.video
    assert real is not None
    text = batch.text if batch.text is not None and batch.text.numel() else None
    made = world.predict(
        real[:, :, :given],
        text=text,
        num_frames=real.shape[2],
        fps=batch.fps,
        seed=derive_seed(config.seed, "evaluate", number),
        sampling=config.sampling,
    )
    videos = {
        WORLD: made,
        COPY: real[:, :, given - 1 : given].expand_as(real),
        CEILING: world.reconstruct(real),
    }
    if mean_video is not None:
        if mean_video.shape != real.shape[1:]:
            raise ValueError(
                f"mean_video: shape {tuple(mean_video.shape)}: must be that of the clips, "
                f"{tuple(real.shape[1:])}"
            )
        videos[MEAN] = mean_video.expand_as(real)
    return videos


class _Collected:
    """Scores of all batches so far."""

    def __init__(self, *, config: FuturesConfig, given: int) -> None:
        self.config, self.given = config, given
        self.scores = Scores()
        self.curves: dict[str, dict[str, list[Tensor]]] = {}
        self.rejected: dict[str, str] = {}
        self.examples: list[Example] = []
        self.num_in = self.total = 0

    def take(self, batch: VideoBatch, videos: dict[str, Tensor]) -> None:
        real = batch.video
        assert real is not None
        self.total = real.shape[2]
        kept = self._finite(batch, {**videos, "clip": real})
        if not len(kept):
            return
        self.scores.keys += [batch.key[i] for i in kept.tolist()]
        future = real[kept, :, self.given :]
        last = real[kept, :, self.given - 1]
        mask = moving_pixels(future, last, threshold=self.config.threshold)
        for row, video in videos.items():
            guess = video[kept, :, self.given :]
            ssims = frame_ssim(guess, future)
            self.scores.add(row, "psnr", psnr(guess, future))
            self.scores.add(row, "ssim", ssims.mean(dim=1))
            self.scores.add(row, "moving_psnr", masked_psnr(guess, future, mask))
            lines = self.curves.setdefault(row, {"psnr": [], "ssim": []})
            lines["psnr"].append(frame_psnr(guess, future))
            lines["ssim"].append(ssims)
        self._keep_examples(batch, videos[WORLD], kept)

    def _finite(self, batch: VideoBatch, videos: dict[str, Tensor]) -> Tensor:
        good = []
        for i, key in enumerate(batch.key):
            bad = [name for name, video in videos.items() if not video[i].isfinite().all()]
            if bad:
                self.rejected[f"{self.num_in - len(batch) + i}:{key}"] = f"{bad[0]}: not finite"
            else:
                good.append(i)
        return torch.tensor(good, dtype=torch.long)

    def _keep_examples(self, batch: VideoBatch, made: Tensor, kept: Tensor) -> None:
        assert batch.video is not None
        shown = {example.key for example in self.examples}
        for i in kept.tolist():
            if len(self.examples) >= self.config.num_examples:
                return
            if batch.key[i] not in shown:
                shown.add(batch.key[i])
                self.examples.append(
                    Example(
                        key=batch.key[i],
                        caption=batch.caption[i] if batch.caption else "",
                        fps=float(batch.fps[i]),
                        condition_frames=self.given,
                        real=batch.video[i],
                        made=made[i],
                    )
                )

    def report(self, world: World) -> FutureReport:
        if not self.scores.keys:
            raise ValueError(
                f"evaluate: none of {self.num_in} clips could be evaluated "
                f"({next(iter(self.rejected.values()), 'there are none')})"
            )
        seed, others = self.config.seed, [row for row in self.scores.values if row != WORLD]
        assert self.num_in == len(self.scores.keys) + len(self.rejected)
        return FutureReport(
            num_in=self.num_in,
            num_evaluated=len(self.scores.keys),
            rejected=self.rejected,
            condition_frames=self.given,
            future_frames=self.total - self.given,
            rows=self.scores.intervals(seed),
            differences={
                f"{WORLD} - {other}": {
                    metric: self.scores.difference(WORLD, other, metric, seed) for metric in METRICS
                }
                for other in others
            },
            curves={
                row: {m: torch.cat(parts).mean(dim=0).tolist() for m, parts in lines.items()}
                for row, lines in self.curves.items()
            },
            settings={**asdict(self.config), "sampler": world.settings(self.config.sampling)},
            scores=self.scores,
            examples=self.examples,
        )


def mean_of(batches: Iterable[VideoBatch]) -> Float[Tensor, "c t h w"]:
    """The mean of all videos, frame by frame. Raises ValueError when there are none."""
    total, count = None, 0
    for batch in batches:
        assert batch.video is not None
        part = batch.video.double().sum(dim=0)
        total = part if total is None else total + part
        count += len(batch)
    if total is None:
        raise ValueError("mean video: there are no training clips")
    return (total / count).float()
