"""The nano pipeline, in order: cheap before costly, and captions for survivors only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openwfm.curation.captioner import WriteCaption
from openwfm.curation.config import CurationConfig
from openwfm.curation.embed import EmbedText
from openwfm.curation.measure import Measure
from openwfm.curation.pipeline import Filter, Stage
from openwfm.curation.probe import Probe
from openwfm.curation.record import Clip
from openwfm.curation.shots import SplitShots
from openwfm.curation.transcode import Transcode


@dataclass(frozen=True, kw_only=True)
class Phases:
    """``measure`` takes a source to measured clips; ``caption`` takes a kept clip to its text.

    Stages of ``caption`` see the encoded video, scores, tags and evidence, but no `Look`.
    """

    measure: tuple[Stage, ...]
    caption: tuple[Stage, ...]


# Called once in every worker, so it must be importable there.
MakePhases = Callable[[CurationConfig], Phases]


def build_phases(config: CurationConfig) -> Phases:
    return Phases(
        measure=(
            Probe(),
            SplitShots(config.threshold, config.max_seconds),
            shortest(config.min_shot_seconds),
            Transcode(
                size=config.size,
                aspect=config.aspect,
                fps=config.fps,
                crf=config.crf,
                keyframe_interval=config.keyframe_interval,
                max_seconds=config.max_seconds,
            ),
            Measure(),
        ),
        caption=(WriteCaption(), EmbedText(config.text_encoder)),
    )


def shortest(seconds: float) -> Filter:
    """Shots that no policy would keep are not worth encoding and measuring."""

    def decide(clip: Clip) -> tuple[str, str] | None:
        if clip.seconds < seconds:
            return "too_short", f"{clip.seconds:.3f} s, under curation.min_shot_seconds={seconds}"
        return None

    return Filter(name="duration", decide=decide)
