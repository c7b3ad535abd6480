"""Stage 1: is it a video that can be used? Packets are counted, one frame is decoded."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from openwfm.curation.frames import open_video, read_frames
from openwfm.curation.record import Record, RejectedError, Source, VideoFacts

# A frame interval this much off the median makes a frame rate variable.
JITTER = 0.05
# An index may count a few frames that an edit list hides; more missing ones mean a cut-off file.
MISSING = 0.02


class Probe:
    """Fills ``facts``; rejects what is not a whole video of two or more frames."""

    name = "probe"
    accepts = Source

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Source) and record.file is not None
        with open_video(record.file) as (container, stream):
            times = _packet_times(container, stream)
            promised = stream.frames
            rate = stream.average_rate
            codec, pixel_aspect = stream.codec_context.name, stream.sample_aspect_ratio
        if not times:
            raise RejectedError("no_frames", "the video stream holds no frames")
        if len(times) == 1:
            raise RejectedError("single_frame", "one frame is an image, not a video")
        if len(times) < promised * (1 - MISSING):
            raise RejectedError("truncated", f"{len(times)} of {promised} frames are in the file")
        frame = next((frame for _, frame in read_frames(record.file)), None)
        if frame is None:
            raise RejectedError("corrupt", "no frame can be decoded")
        median, variable = _intervals(times, rate)
        facts = VideoFacts(
            width=frame.width,
            height=frame.height,
            fps=round(1 / median, 6),
            num_frames=len(times),
            seconds=round(max(times) - min(times) + median, 6),
            codec=codec,
            pixel_format=frame.format.name,
            rotation=round(frame.rotation / 90) * 90 % 360,
            pixel_aspect=float(pixel_aspect) if pixel_aspect else 1.0,
            variable_fps=variable,
        )
        return [replace(record, facts=facts)]


def _packet_times(container: InputContainer, stream: VideoStream) -> list[float]:
    """Presentation times; packets without one count at the stream's average rate."""
    rate = stream.average_rate or Fraction(25)
    times: list[float] = []
    for packet in container.demux(stream):
        if not packet.size:
            continue  # the flush at the end
        if packet.pts is None or packet.time_base is None:
            times.append(float(len(times) / rate))
        else:
            times.append(float(packet.pts * packet.time_base))
    return times


def _intervals(times: list[float], rate: Fraction | None) -> tuple[float, bool]:
    """Median frame interval in seconds, and whether intervals vary."""
    gaps = np.array([after - before for before, after in pairwise(sorted(times))])
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return float(1 / (rate or 25)), False
    median = float(np.median(gaps))
    return median, bool(np.abs(gaps - median).max() > JITTER * median + 1e-3)
