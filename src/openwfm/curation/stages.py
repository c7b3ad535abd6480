"""The nano pipeline, in order: cheap before costly."""

from __future__ import annotations

from openwfm.curation.captioner import WriteCaption
from openwfm.curation.config import CurationConfig
from openwfm.curation.embed import EmbedText
from openwfm.curation.measure import Measure
from openwfm.curation.pipeline import Filter, Stage
from openwfm.curation.probe import Probe
from openwfm.curation.shots import SplitShots
from openwfm.curation.transcode import Transcode


def build_stages(config: CurationConfig) -> tuple[Stage, ...]:
    policy = config.policy
    return (
        Probe(),
        SplitShots(config.threshold, policy.max_seconds),
        Filter(name="duration", decide=policy.duration),
        Transcode(
            size=config.size,
            fps=config.fps,
            crf=config.crf,
            keyframe_interval=config.keyframe_interval,
            max_seconds=policy.max_seconds,
        ),
        Measure(),
        Filter(name="content", decide=policy.content),
        WriteCaption(),
        EmbedText(config.text_encoder),
    )
