"""Video files for users: whole clips in and out, and the provenance that an mp4 carries.

Videos in memory are ``t h w c`` uint8 (files, pictures) or ``c t h w`` float in [-1, 1] (models).
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.container import InputContainer
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from openwfm.files import atomic_path, write_bytes

MAX_QUALITY_CRF = 8  # libx264: 0 is lossless, 51 worst; at 8 a frozen shot stays still


def to_uint8(video: Float[Tensor, "c t h w"]) -> UInt8[Tensor, "t h w c"]:
    """[-1, 1] to 0..255, rounded and clamped."""
    pixels = video.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return rearrange(pixels.to(torch.uint8).cpu(), "c t h w -> t h w c").contiguous()


def from_uint8(video: UInt8[Tensor, "t h w c"]) -> Float[Tensor, "c t h w"]:
    """0..255 to [-1, 1]."""
    return rearrange(video, "t h w c -> c t h w").float().div(127.5).sub(1.0).contiguous()


def read_video(
    path: Path | str, *, last: int | None = None
) -> tuple[UInt8[Tensor, "t h w c"], float]:
    """All frames (or only the ``last`` ones) as RGB, and the frame rate.

    Rotation stored in the file is applied. Raises ValueError naming the file when it is missing,
    corrupt, has no video stream or no frame.
    """
    if last is not None and last < 1:
        raise ValueError(f"last={last}: must be at least 1")
    with open_video(path) as (decoded, rate):
        frames = deque(decoded, maxlen=last)
    if not frames:
        raise ValueError(f"{path}: holds no frame")
    return torch.from_numpy(np.stack(list(frames))), rate


@contextmanager
def open_video(path: Path | str) -> Iterator[tuple[Iterator[np.ndarray], float]]:
    """The RGB frames of a file one by one, uint8 ``h w c``, all of one size, and the frame rate.

    Rotation stored in the file is applied. Raises ValueError as `read_video` does.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    with _readable(path):
        container = av.open(str(path))
    with container:
        if not container.streams.video:
            raise ValueError(f"{path}: has no video stream")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise ValueError(f"{path}: states no frame rate")
        yield _decoded(container, stream, path), float(rate)


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable video ({error})") from error


def _decoded(container: InputContainer, stream: Any, path: Path | str) -> Iterator[np.ndarray]:
    size, frames = None, container.decode(stream)
    while True:
        with _readable(path):
            frame = next(frames, None)
            if frame is None:
                return
            turns = round(getattr(frame, "rotation", 0) / 90)
            image = np.rot90(frame.to_ndarray(format="rgb24", threads=1), turns)
        if size not in (None, image.shape):
            raise ValueError(f"{path}: its frames change size")
        size = image.shape
        yield image


def write_video(
    path: Path | str,
    video: UInt8[Tensor, "t h w c"],
    fps: float,
    metadata: dict[str, Any] | None = None,
) -> None:
    """H.264 yuv420p mp4 with ``metadata`` as JSON in its comment; whole or absent.

    Raises ValueError when the video is empty, not uint8 RGB, or of odd size (yuv420p).
    """
    write_chunks(path, [video], fps, metadata)


def write_chunks(
    path: Path | str,
    chunks: Iterable[UInt8[Tensor, "t h w c"]],
    fps: float,
    metadata: dict[str, Any] | None = None,
) -> None:
    """As `write_video`, of a video that comes piece by piece and is never in memory as a whole."""
    with atomic_path(path, suffix=".mp4") as temporary:
        with av.open(str(temporary), "w", format="mp4") as container:
            if metadata is not None:
                container.metadata["comment"] = json.dumps(metadata, sort_keys=True)
            _encode(container, chunks, fps)


def video_bytes(video: UInt8[Tensor, "t h w c"], fps: float) -> bytes:
    """As `write_video`, in memory; equal frames give equal bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        _encode(container, [video], fps)
    return buffer.getvalue()


def _check(video: Tensor, fps: float) -> None:
    if video.dtype != torch.uint8 or video.ndim != 4 or video.shape[-1] != 3:
        raise ValueError(
            f"video: must be uint8 of shape (t, h, w, 3), is {video.dtype} {tuple(video.shape)}"
        )
    num_frames, height, width, _ = video.shape
    if num_frames < 1 or height % 2 or width % 2:
        raise ValueError(
            f"video: {num_frames} frames of {height}x{width}: at least 1 frame, even height and "
            "width (yuv420p)"
        )
    if not 0 < fps <= 1000:
        raise ValueError(f"fps={fps}: must be above 0 and at most 1000")


def _encode(container: Any, chunks: Iterable[Tensor], fps: float) -> None:
    stream = None
    for chunk in chunks:
        _check(chunk, fps)
        if stream is None:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = chunk.shape[1:3]
            stream.pix_fmt = "yuv420p"
            # x264's macroblock tree gives other bytes now and then (1 of 25 encodes of one 64x64
            # take), and with them every content-addressed id downstream.
            options = {"crf": str(MAX_QUALITY_CRF), "preset": "veryfast", "threads": "1"}
            stream.options = options | {"mbtree": "0"}
        for image in chunk.cpu().numpy():
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
    if stream is None:
        raise ValueError("video: no chunk of frames; must hold at least 1 frame")
    container.mux(stream.encode())


def read_provenance(path: Path | str) -> dict[str, Any]:
    """The JSON that ``write_video`` stored. Raises ValueError naming a file that has none."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with av.open(str(path)) as container:
            comment = container.metadata.get("comment")
    except (av.error.FFmpegError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable video ({error})") from error
    try:
        value = json.loads(comment or "")
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: carries no provenance") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: carries no provenance")
    return value


def carried_caption(path: Path | str | None) -> str:
    """The caption in the provenance of a video that `openwfm` wrote; "" where there is none."""
    try:
        return str(read_provenance(path).get("caption") or "") if path is not None else ""
    except ValueError:
        return ""


def png_bytes(image: UInt8[Tensor, "h w c"]) -> bytes:
    """Lossless PNG of an RGB image."""
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width = image.shape[:2]
    codec.pix_fmt = "rgb24"
    codec.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image.cpu().numpy()), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def write_png(path: Path | str, image: UInt8[Tensor, "h w c"]) -> None:
    write_bytes(path, png_bytes(image))


def strip(video: UInt8[Tensor, "t h w c"], *, every: int = 1) -> UInt8[Tensor, "h w c"]:
    """Every ``every``-th frame side by side, one pixel apart."""
    shown = torch.nn.functional.pad(video[::every], (0, 0, 0, 1), value=255)
    return rearrange(shown, "t h w c -> h (t w) c")[:, :-1].contiguous()


def stack_rows(images: list[UInt8[Tensor, "h w c"]]) -> UInt8[Tensor, "h w c"]:
    """Pictures of equal width below each other, two pixels apart."""
    padded = [torch.nn.functional.pad(image, (0, 0, 0, 0, 0, 2), value=255) for image in images]
    return torch.cat(padded)[:-2].contiguous()


def side_by_side(videos: list[UInt8[Tensor, "t h w c"]]) -> UInt8[Tensor, "t h w c"]:
    """Videos of equal size and length next to each other, two pixels apart."""
    gap = torch.nn.functional.pad(torch.stack(videos), (0, 0, 0, 2), value=255)
    return rearrange(gap, "n t h w c -> t h (n w) c")[:, :, :-2].contiguous()


def fit_size(video: Float[Tensor, "c t h w"], size: tuple[int, int]) -> Float[Tensor, "c t y x"]:
    """Centre-crop to the aspect ratio of ``size``, then resize (area down, bilinear up)."""
    height, width = video.shape[-2:]
    if (height, width) == size:
        return video
    scale = min(height / size[0], width / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    cropped = video[..., top : top + rows, left : left + columns]
    frames = rearrange(cropped, "c t h w -> t c h w")
    if scale >= 1:
        resized = F.interpolate(frames, size, mode="area")
    else:
        resized = F.interpolate(frames, size, mode="bilinear", align_corners=False)
    return rearrange(resized, "t c h w -> c t h w")
