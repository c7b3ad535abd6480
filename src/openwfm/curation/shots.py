"""Stage 2: shots. Decodes the source once, at 48×27, and cuts where TransNet V2 says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from av.video.frame import VideoFrame

from openwfm.curation.frames import read_frames, small_rgb
from openwfm.curation.record import Clip, Record, Source
from openwfm.curation.transitions import find_transitions, shots_between
from openwfm.curation.transnet import HEIGHT, WIDTH, Network, TransNet, load_weights, predict
from openwfm.curation.transnet_quick import TwoPass, is_quick_here


class SplitShots:
    """Makes a clip of every shot; a shot over ``max_seconds`` becomes several equal clips."""

    name = "shots"
    accepts = Source

    def __init__(self, threshold: float, max_seconds: float) -> None:
        self.threshold = threshold
        self.max_seconds = max_seconds
        self.network: Network | None = None

    def setup(self) -> None:
        self.network = detector(self.threshold)

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Source) and self.network is not None
        file = record.file
        assert file is not None and record.facts is not None
        times: list[float] = []

        def timed() -> Iterator[VideoFrame]:
            for time, frame in read_frames(file):
                times.append(time)
                yield frame

        single, many = predict(self.network, small_rgb(timed(), WIDTH, HEIGHT))
        transitions = find_transitions(single, many, self.threshold)
        source = replace(record, transitions=tuple(transitions))
        interval = times[-1] - times[-2] if len(times) > 1 else 0.0
        times.append(times[-1] + (interval if interval > 0 else 1 / record.facts.fps))
        clips = [
            _clip(source, start, end, times)
            for shot in shots_between(transitions, len(single))
            for start, end in divide(*shot, times, self.max_seconds)
        ]
        return [source, *clips]


def detector(threshold: float) -> Network:
    """TransNet V2 as it is fastest on this machine. The cuts are the same on every one.

    What the processor can do decides, not a timing: two runs must agree to the last digit.
    """
    state = load_weights()
    exact = TransNet(state)
    return TwoPass(exact, state, threshold) if is_quick_here() else exact


def divide(start: int, end: int, times: list[float], max_seconds: float) -> list[tuple[int, int]]:
    """Equal parts of a shot, as few as keep each at ``max_seconds``; ``times[end]`` must exist."""
    seconds = times[end] - times[start]
    parts = min(end - start, max(1, math.ceil(seconds / max_seconds - 1e-9)))
    edges = [start + round(part * (end - start) / parts) for part in range(parts + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _clip(source: Source, start: int, end: int, times: list[float]) -> Clip:
    return Clip(
        source=source.id,
        path=source.path,
        start_frame=start,
        end_frame=end,
        start_seconds=round(times[start], 6),
        end_seconds=round(times[end], 6),
        origin=source,
    )
