"""What workers do in the two phases that see video: measure a source, caption a kept clip."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from openwfm.curation.config import CurationConfig
from openwfm.curation.ingest import at_hand
from openwfm.curation.pipeline import Pipeline
from openwfm.curation.record import Clip, Media, Source
from openwfm.curation.stages import MakePhases
from openwfm.curation.work import CaptionedWork, MeasuredWork


@dataclass
class MeasureSource:
    """Source → its clips with scores, in `MeasuredWork`. Sees no policy."""

    config: CurationConfig
    make_phases: MakePhases
    work: MeasuredWork
    threads: int = field(default=1, init=False)
    _pipeline: Pipeline | None = field(default=None, init=False)

    def setup(self) -> None:
        self._pipeline = Pipeline(self.make_phases(self.config).measure)
        self._pipeline.setup()

    def do(self, task: Source) -> None:
        assert self._pipeline is not None
        accounts = self._pipeline.accounts()
        with at_hand(self.config.source, task) as source:
            self.work.write(source, self._pipeline.run(source, accounts), accounts)


@dataclass(frozen=True)
class CaptionTask:
    """``clip`` without evidence; ``key`` is the place of the result in `CaptionedWork`."""

    clip: Clip
    source: Source
    key: str


@dataclass
class CaptionClip:
    """Kept clip → its captions and token embeddings, in `CaptionedWork`.

    As many at a time in a worker as its endpoints take questions: a clip often has one window.
    """

    config: CurationConfig
    make_phases: MakePhases
    measured: MeasuredWork
    work: CaptionedWork
    _pipeline: Pipeline | None = field(default=None, init=False)

    @property
    def threads(self) -> int:
        asked = (self.config.caption.vision, self.config.rewrite)
        return max((one.endpoint.concurrency for one in asked if one is not None), default=1)

    def setup(self) -> None:
        self._pipeline = Pipeline(self.make_phases(self.config).caption)
        self._pipeline.setup()

    def do(self, task: CaptionTask) -> None:
        assert self._pipeline is not None
        accounts = self._pipeline.accounts()
        with at_hand(self.config.source, task.source, video=False) as source:
            media = Media(
                video=self.measured.video(task.clip),
                signature=self.measured.array(task.clip, "signature"),
                embedding=self.measured.array(task.clip, "embedding"),
            )
            clip = replace(self.measured.in_full(task.clip), origin=source, media=media)
            (result,) = self._pipeline.run(clip, accounts)
        assert isinstance(result, Clip)
        self.work.write(task.key, result, accounts)
