"""Stage 2: shots. Decodes the source once, at 48×27, and cuts where TransNet V2 says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from av.video.frame import VideoFrame

from openwfm.curation.frames import read_frames, small_rgb
from openwfm.curation.record import Clip, Record, Source, Transition
from openwfm.curation.transnet import HEIGHT, WIDTH, TransNet, load_weights, predict


class SplitShots:
    """Makes a clip of every shot; a shot over ``max_seconds`` becomes several equal clips."""

    name = "shots"
    accepts = Source

    def __init__(self, threshold: float, max_seconds: float) -> None:
        self.threshold = threshold
        self.max_seconds = max_seconds
        self.network: TransNet | None = None

    def setup(self) -> None:
        self.network = TransNet(load_weights())

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


def find_transitions(single: np.ndarray, many: np.ndarray, threshold: float) -> list[Transition]:
    """Transitions from per-frame probabilities.

    A run of ``single`` above the threshold is a transition; it reaches as far as the run of
    ``many`` that overlaps it, so a dissolve's mixed frames belong to neither shot.
    """
    wide = runs((many > threshold) | (single > threshold))
    found = []
    for start, end in wide:
        peak = start + int(np.argmax(single[start:end]))
        if single[peak] > threshold:
            found.append(
                Transition(
                    start=start, end=end, cut=peak + 1, probability=round(float(single[peak]), 4)
                )
            )
    return found


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Start and end (exclusive) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def shots_between(transitions: list[Transition], num_frames: int) -> list[tuple[int, int]]:
    """The frames that no transition holds, as start and end (exclusive)."""
    inside = np.ones(num_frames, dtype=bool)
    for transition in transitions:
        inside[transition.start : transition.end] = False
    return runs(inside)


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
