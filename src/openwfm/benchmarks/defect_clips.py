"""Clean clips, and copies of them with one defect each, for `openwfm.benchmarks.defects`.

Everything is a function of (seed, index). Nothing of one half of a natural film is in the other:
even seeds see the first halves, odd seeds the second.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8

from openwfm.benchmarks import overlays
from openwfm.curation.look import Look, LookTaker
from openwfm.curation.record import VideoFacts
from openwfm.extras import require
from openwfm.randomness import derive_seed, numpy_generator
from openwfm.simulation.camera import MOTIONS, draw_camera
from openwfm.simulation.looks import draw_look
from openwfm.simulation.natural import natural_videos
from openwfm.simulation.render import choose_backend
from openwfm.simulation.rooms.config import RoomsConfig
from openwfm.simulation.scenarios import SCENARIOS, draw_scene
from openwfm.simulation.stage import Stage
from openwfm.simulation.worlds import ClipRejectedError, World
from openwfm.video import read_video

NUM_FRAMES, FPS = 24, 10.0
CUT = 45.0  # grey levels between neighbouring frames: a piece with a cut is not a clip
FILMS = (0.4, 0.35, 0.25)  # chances of bikes, bigbuckbunny, carphone
BIKES_FRAMES = 20  # its shots are short
OUT_OF_FOCUS = (
    39  # the first frames of bikes, at half its rate, are of a shot that a person sees so
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """``frames`` uint8 ``t h w 3`` at ``fps``; ``crf`` of the H.264 file that it becomes."""

    frames: UInt8[np.ndarray, "t h w 3"]
    origin: str
    crf: int
    fps: float = FPS


def clean(seed: int, index: int, size: int) -> Example:
    """Two natural pieces, then a room, then a table top, and so on. ``size`` is of the rendered
    ones; if it is 64, natural ones are shrunk to that as well."""
    rng = numpy_generator(seed, "clean", index)
    origin, frames = (_natural, _natural, _room, _tabletop)[index % 4](seed, index, size, rng)
    return Example(frames=frames, origin=origin, crf=int(rng.integers(16, 27)))


@cache
def _films() -> tuple[np.ndarray, ...]:
    bikes, *others = (read_video(path)[0].numpy()[::2] for path in natural_videos())
    return bikes[OUT_OF_FOCUS:], *others


def _natural(
    seed: int, index: int, size: int, rng: np.random.Generator
) -> tuple[str, UInt8[np.ndarray, "t h w 3"]]:
    """A crop of 2 s between two cuts, perhaps mirrored."""
    while True:
        number = int(rng.choice(len(_films()), p=FILMS))
        film = _films()[number]
        half = np.split(film, [len(film) // 2])[seed % 2]
        length = NUM_FRAMES if number else BIKES_FRAMES
        start = int(rng.integers(len(half) - length + 1))
        piece = half[start : start + length]
        small = piece[:, ::8, ::8].astype(np.float32)
        if np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3)).max() < CUT:
            break
    share = float(rng.uniform(0.5, 1.0)) * min(1.0, 400 / film.shape[2])
    height, width = (int(side * share) // 2 * 2 for side in piece.shape[1:3])
    top, left = (
        int(rng.integers(full - part + 1))
        for full, part in zip(piece.shape[1:3], (height, width), strict=True)
    )
    piece = piece[:, top : top + height, left : left + width]
    if rng.random() < 0.5:
        piece = piece[:, :, ::-1]
    if size == 64:
        cv2 = require("cv2", extra="simulation")
        wide = round(width / height * 32) * 2
        area = cv2.INTER_AREA
        piece = np.stack([cv2.resize(f, (wide, 64), interpolation=area) for f in piece])
    return f"natural {number}", np.ascontiguousarray(piece)


@cache
def _rooms(size: int, seed: int) -> World:
    config = RoomsConfig(
        width=size, height=size // 64 * 48, fps=FPS, num_frames=25, supersample=1 + (size < 128)
    )
    return config.open(seed, choose_backend())


def _room(
    seed: int, index: int, size: int, rng: np.random.Generator
) -> tuple[str, UInt8[np.ndarray, "t h w 3"]]:
    """A moving camera in a room; film clips that the world itself rejects are passed over."""
    own = index
    while True:
        try:
            return "room", _rooms(size, seed).film(own).views["main"]
        except ClipRejectedError:
            own += 100_003


@cache
def _stage(size: int) -> Stage:
    return Stage(size=size, supersample=1 + (size < 128), fps=int(FPS), backend=choose_backend())


def _tabletop(
    seed: int, index: int, size: int, rng: np.random.Generator
) -> tuple[str, UInt8[np.ndarray, "t h w 3"]]:
    """Falling and rolling things; half of the cameras stand still."""
    scene = draw_scene(rng, str(rng.choice(list(SCENARIOS))))
    motion = str(rng.choice(("still", *MOTIONS)))
    camera = draw_camera(rng, motion, scene.height)
    look = draw_look(numpy_generator(derive_seed(seed, "defects", index), "look"))
    return "table", _stage(size).film(scene, look, camera, NUM_FRAMES)[0]


def frozen(example: Example, rng: np.random.Generator) -> Example:
    at = int(rng.integers(len(example.frames)))
    return replace(example, frames=np.repeat(example.frames[at : at + 1], NUM_FRAMES, axis=0))


def black(example: Example, rng: np.random.Generator) -> Example:
    """At most 5 % of its light, and the noise of a dark sensor."""
    share, noise = float(rng.uniform(0, 0.05)), float(rng.uniform(0, 2))
    dark = example.frames * share + rng.normal(0, noise, example.frames.shape)
    return replace(example, frames=dark.clip(0, 255).astype(np.uint8))


GAUSSIAN = (0.008, 0.012, 0.02, 0.035)  # standard deviations in shares of the height
SMEAR = (0.04, 0.06, 0.1)  # lengths of motion blur in shares of the height


def blurred(example: Example, rng: np.random.Generator) -> Example:
    """Defocus or smear that a person sees: at least a standard deviation of 1.5 pixels, or a
    length of 6, of the still of 640 pixels or less."""
    cv2 = require("cv2", extra="simulation")
    height, width = example.frames.shape[1:3]
    unit = max(1.0, max(height, width) / 640)
    if rng.random() < 0.5:
        sigma = max(1.5 * unit, float(rng.choice(GAUSSIAN)) * height)
        frames = [cv2.GaussianBlur(frame, (0, 0), sigma) for frame in example.frames]
    else:
        length = max(6 * unit, float(rng.choice(SMEAR)) * height)
        kernel = _line(cv2, length, float(rng.uniform(0, np.pi)))
        frames = [cv2.filter2D(frame, -1, kernel) for frame in example.frames]
    return replace(example, frames=np.stack(frames))


def _line(cv2: Any, length: float, angle: float) -> np.ndarray:
    """A kernel of weight 1 along a line of ``length`` pixels."""
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    centre, bits = side // 2, 4
    tip = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = [tuple(int(v) for v in np.rint((centre + s * tip) * 2**bits)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, bits)
    return kernel / kernel.sum()


def overlaid(example: Example, rng: np.random.Generator) -> Example:
    kind = str(rng.choice(list(overlays.KINDS)))
    frames = overlays.KINDS[kind](example.frames, rng)
    return replace(example, frames=frames, origin=f"{example.origin}, {kind}")


def with_sign(example: Example, rng: np.random.Generator) -> Example:
    frames = overlays.filmed_sign(example.frames, rng)
    return replace(example, frames=frames, origin=f"{example.origin}, sign")


DEFECTS: dict[str, Callable[[Example, np.random.Generator], Example]] = {
    "frozen": frozen,
    "black": black,
    "blurred": blurred,
    "overlay": overlaid,
    "sign": with_sign,
}


def look_at(example: Example) -> Look:
    """As Transcode would see the H.264 file of the example."""
    height, width = (side // 2 * 2 for side in example.frames.shape[1:3])
    frames = example.frames[:, :height, :width]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=Fraction(example.fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        options = {"crf": str(example.crf), "preset": "ultrafast", "threads": "1"}
        stream.options = {**options, "mbtree": "0"}  # see openwfm.video
        for frame in frames:
            picture = np.ascontiguousarray(frame)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    buffer.seek(0)
    facts = VideoFacts(
        width=width, height=height, fps=example.fps, num_frames=len(frames),
        seconds=len(frames) / example.fps, codec="h264", pixel_format="yuv420p", rotation=0,
        pixel_aspect=1.0, variable_fps=False,
    )  # fmt: skip
    taker = LookTaker(len(frames), example.fps, facts)
    with av.open(buffer, "r") as container:
        for decoded in container.decode(video=0):
            taker.see(decoded)
    return taker.finish()
