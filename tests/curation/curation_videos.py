"""Small videos made for tests."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def scene(
    num_frames: int, *, seed: int, height: int = 72, width: int = 96, speed: float = 1.5
) -> np.ndarray:
    """A textured background with a bright ball that moves to the right; uint8 ``t h w 3``."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 200, (6, 8, 3)).astype(np.float32)
    rows = np.linspace(0, 5, height).astype(int)
    columns = np.linspace(0, 7, width).astype(int)
    background = coarse[rows][:, columns]
    y, x = np.mgrid[:height, :width]
    colour = random.integers(0, 255, 3)
    frames = np.repeat(background[None], num_frames, axis=0)
    for index in range(num_frames):
        centre = width / 4 + speed * index
        inside = (x - centre) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2
        frames[index][inside] = colour
    return frames.astype(np.uint8)


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    fps: int = 24,
    pts: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    crf: int = 10,
) -> Path:
    """``pts`` are in milliseconds, for a variable frame rate."""
    height, width = frames.shape[1:3]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.options = {"crf": str(crf), "preset": "ultrafast"}
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts = index if pts is None else pts[index]
            frame.time_base = Fraction(1, fps) if pts is None else Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        samples = np.zeros((1, 1024), dtype=np.float32)
        for index in range(8):
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, index * 1024
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def set_rotation(path: Path) -> Path:
    """Write a display matrix for a quarter turn clockwise, as telephones do, into an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one, unit = 0x10000, 0x40000000
    matrix = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, unit)
    data[at : at + 36] = matrix
    path.write_bytes(bytes(data))
    return path


def decode(video: Path | bytes) -> np.ndarray:
    with av.open(io.BytesIO(video) if isinstance(video, bytes) else str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)
