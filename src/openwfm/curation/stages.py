"""The stages in order: cheap before costly, and captions for survivors only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openwfm.curation.captioner import RewriteCaption, WriteCaption
from openwfm.curation.config import CurationConfig
from openwfm.curation.content import ClassifyContent
from openwfm.curation.embed import EmbedText
from openwfm.curation.features import EmbedClip
from openwfm.curation.motion import MeasureMotion
from openwfm.curation.overlay import FindText
from openwfm.curation.pipeline import Filter, Stage
from openwfm.curation.probe import Probe
from openwfm.curation.quality import MeasureQuality
from openwfm.curation.record import Clip
from openwfm.curation.shots import SplitShots
from openwfm.curation.transcode import Transcode
from openwfm.curation.vlm import VlmFilter


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
                codec=config.codec,
                crf=config.crf,
                keyframe_interval=config.keyframe_interval,
                max_seconds=config.max_seconds,
            ),
            MeasureMotion(config.motion),
            MeasureQuality(config.aesthetic),
            *((FindText(),) if config.overlay else ()),
            *((VlmFilter(config.vlm),) if config.vlm else ()),
            ClassifyContent(config.encoder),
            EmbedClip(config.encoder),
        ),
        caption=(
            WriteCaption(config.caption),
            *((RewriteCaption(config.rewrite),) if config.rewrite else ()),
            EmbedText(config.text_encoder),
        ),
    )


def shortest(seconds: float) -> Filter:
    """Shots that no policy would keep are not worth encoding and measuring."""

    def decide(clip: Clip) -> tuple[str, str] | None:
        if clip.seconds < seconds:
            return "too_short", f"{clip.seconds:.3f} s, under curation.min_shot_seconds={seconds}"
        return None

    return Filter(name="duration", decide=decide)
