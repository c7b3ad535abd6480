"""JPEG and H.264 as baselines: the bits of a clip, and what it looks like afterwards."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from openwfm.video import from_uint8

JPEG_QUALITIES = (2, 5, 10, 20, 35, 50, 70, 85, 95)
H264_CRFS = (50, 45, 40, 35, 30, 25, 20, 14, 8, 2)
_START_OF_SCAN = b"\xff\xda"
_START_CODE = re.compile(b"\x00\x00\x01")
_SLICES = (1, 5)  # NAL unit types of coded pictures


@dataclass(frozen=True, eq=False)
class Coded:
    """``video`` is ``c t h w`` in [-1, 1]."""

    bits: int
    video: Tensor


def jpeg(frames: UInt8[np.ndarray, "t h w c"], quality: int) -> Coded:
    """Every frame by itself. Bits are those of the scans: headers and tables are not counted, as a
    decoder could know them beforehand (at 64×64 they outweigh the picture)."""
    bits, decoded = 0, []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
        data = buffer.getvalue()
        bits += 8 * (len(data) - data.rindex(_START_OF_SCAN))
        decoded.append(np.asarray(Image.open(io.BytesIO(data))))
    return Coded(bits, from_uint8(torch.from_numpy(np.stack(decoded))))


def h264(frames: UInt8[np.ndarray, "t h w c"], fps: float, crf: int) -> Coded:
    """libx264, preset medium, 4:2:0. Bits are those of the slices: container, parameter sets and
    the encoder's note of its settings (5 kbit) are not counted. Sides must be even."""
    buffer, bits = io.BytesIO(), 0
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"preset": "medium", "crf": str(crf), "x264-params": "log-level=none"}
        packets = []
        for frame in frames:
            packets += stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        for packet in [*packets, *stream.encode()]:
            bits += slice_bits(bytes(packet))
            container.mux(packet)
    with av.open(io.BytesIO(buffer.getvalue()), "r") as source:
        decoded = [frame.to_ndarray(format="rgb24", threads=1) for frame in source.decode(video=0)]
    return Coded(bits, from_uint8(torch.from_numpy(np.stack(decoded))))


def slice_bits(stream: bytes) -> int:
    """Bits of the slices of an H.264 byte stream (Annex B), start codes included."""
    starts = [match.start() for match in _START_CODE.finditer(stream)]
    units = pairwise([*starts, len(stream)])
    return sum(8 * (end - start) for start, end in units if stream[start + 3] & 31 in _SLICES)


def at_rate(rates: Sequence[float], values: Sequence[float], rate: float) -> float:
    """Value at ``rate``, linear in the logarithm of rates; NaN outside of what was measured."""
    order = np.argsort(rates)
    x, y = np.log(np.asarray(rates, float)[order]), np.asarray(values, float)[order]
    at = np.log(rate)
    return float(np.interp(at, x, y)) if x[0] <= at <= x[-1] else float("nan")
