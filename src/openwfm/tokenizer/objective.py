"""The reconstruction objective: which terms, how much of each, from which step on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.tokenizer.backbones import OFFLINE, build_backbone, check_backbone
from openwfm.tokenizer.flow import ESTIMATORS, build_estimator, flow_loss
from openwfm.tokenizer.losses import (
    gram_distance,
    l1_loss,
    perceptual_distance,
    pick_frames,
    take_frames,
)

Weight = float | Mapping[int, float]
TERMS = ("l1", "perceptual", "gram", "flow")


def weight_at(weight: Weight, step: int) -> float:
    """A number, or what a schedule {first step: value} says at ``step`` (0 before it begins)."""
    if not isinstance(weight, Mapping):
        return weight
    begun = [first for first in weight if first <= step]
    return weight[max(begun)] if begun else 0.0


def highest(weight: Weight) -> float:
    """The largest value that a weight ever has."""
    return max(weight.values()) if isinstance(weight, Mapping) else weight


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Weights of the reconstruction objective; 0 switches a term off and loads nothing for it.

    A weight is a number, or a schedule ``{0: 0.1, 500000: 0.073}`` of first steps and values. The
    first stage of arXiv 2501.03575, section 4.1, is L1 (1.0) and perceptual (0.1); the second adds
    Gram (0.062 in its release) and optical flow (0.01). Perceptual and Gram terms see
    ``perceptual_frames`` random frames of each clip through the network ``features``.
    """

    l1: Weight = 1.0
    perceptual: Weight = 0.1
    perceptual_frames: int = 2
    features: str = OFFLINE
    gram: Weight = 0.0
    flow: Weight = 0.0
    flow_estimator: str = "lucas_kanade"

    def __post_init__(self) -> None:
        for name in TERMS:
            _check_weight(f"objective.{name}", getattr(self, name))
        if highest(self.l1) == 0 and highest(self.perceptual) == 0:
            raise ValueError("objective.l1=0: must be positive when objective.perceptual is 0 too")
        if self.perceptual_frames < 1:
            raise ValueError(
                f"objective.perceptual_frames={self.perceptual_frames}: must be at least 1"
            )
        check_backbone(self.features)
        if self.flow_estimator not in ESTIMATORS:
            raise ValueError(
                f"objective.flow_estimator={self.flow_estimator}: must be one of "
                f"{', '.join(ESTIMATORS)}"
            )


def _check_weight(name: str, weight: Weight) -> None:
    values = weight if isinstance(weight, Mapping) else {0: weight}
    if not values:
        raise ValueError(f"{name}={weight}: must name at least one step")
    for step, value in values.items():
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise ValueError(f"{name}: step {step!r}: must be an integer, at least 0")
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}={value}: must be at least 0 and finite")


class Objective:
    """The terms of a config, with the frozen networks they need. Not part of any checkpoint."""

    def __init__(self, config: ReconstructionConfig) -> None:
        self.config = config
        looks = highest(config.perceptual) > 0 or highest(config.gram) > 0
        self._backbone = build_backbone(config.features) if looks else None
        self._flow = build_estimator(config.flow_estimator) if highest(config.flow) > 0 else None

    def __call__(
        self,
        reconstruction: Float[Tensor, "b c t h w"],
        video: Float[Tensor, "b c t h w"],
        step: int,
        generator: torch.Generator,
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each term that counts at ``step``.

        ``generator`` picks the frames for the features. The flow term passes over clips of one
        frame.
        """
        weights = {name: weight_at(getattr(self.config, name), step) for name in TERMS}
        terms = {"l1": (weights["l1"], l1_loss(reconstruction, video))}
        if weights["perceptual"] > 0 or weights["gram"] > 0:
            ours, theirs = self._features(reconstruction, video, generator)
            if weights["perceptual"] > 0:
                terms["perceptual"] = (weights["perceptual"], perceptual_distance(ours, theirs))
            if weights["gram"] > 0:
                terms["gram"] = (weights["gram"], gram_distance(ours, theirs, len(video)))
        if weights["flow"] > 0 and video.shape[2] > 1:
            assert self._flow is not None
            terms["flow"] = (weights["flow"], flow_loss(self._flow, reconstruction, video))
        return terms

    def _features(
        self, reconstruction: Tensor, video: Tensor, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Features of the same frames of both; gradients flow to the reconstruction only."""
        assert self._backbone is not None
        backbone = self._backbone.to(video.device)
        count = self.config.perceptual_frames
        indices = pick_frames(len(video), video.shape[2], count, generator)
        with torch.no_grad():
            theirs = backbone(take_frames(video, indices))
        return backbone(take_frames(reconstruction, indices)), theirs
