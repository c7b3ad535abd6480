"""Stages without models, for tests of the engine and of broken input."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np

from openwfm.curation.captioner import WriteCaption
from openwfm.curation.config import CurationConfig
from openwfm.curation.frames import read_frames
from openwfm.curation.probe import Probe
from openwfm.curation.quality import MeasureQuality
from openwfm.curation.record import Clip, Record, Source
from openwfm.curation.stages import Phases, shortest
from openwfm.curation.transcode import Transcode


class Halves:
    """Two clips of every source, without a shot detector."""

    name = "shots"
    accepts = Source

    def setup(self) -> None: ...

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Source) and record.file is not None
        if "deadly" in record.path:
            os.kill(os.getpid(), signal.SIGKILL)
        times = [time for time, _ in read_frames(record.file)]
        times.append(2 * times[-1] - times[-2])
        middle = len(times) // 2
        return [
            record,
            *(self._clip(record, *span, times) for span in ((0, middle), (middle, len(times) - 1))),
        ]

    @staticmethod
    def _clip(source: Source, start: int, end: int, times: list[float]) -> Clip:
        return Clip(
            source=source.id, path=source.path, origin=source, start_frame=start, end_frame=end,
            start_seconds=times[start], end_seconds=times[end],
        )  # fmt: skip


class CountLetters:
    """A text embedding that needs no weights."""

    name = "text"
    accepts = Clip

    def setup(self) -> None: ...

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.media is not None
        text = np.full((len(record.captions[0].text.split()), 4), 0.5, dtype=np.float16)
        return [replace(record, text_encoder="letters", media=replace(record.media, text=text))]


def make_phases(config: CurationConfig) -> Phases:
    return Phases(
        measure=(
            Probe(),
            Halves(),
            shortest(config.min_shot_seconds),
            Transcode(
                size=config.size, aspect=config.aspect, fps=config.fps, crf=config.crf,
                keyframe_interval=config.keyframe_interval, max_seconds=config.max_seconds,
            ),
            MeasureQuality(),
        ),
        caption=(WriteCaption(), CountLetters()),
    )  # fmt: skip
