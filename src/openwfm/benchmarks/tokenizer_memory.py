"""Peak memory of decoding: every measurement in a process of its own, above what it began with."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from openwfm.interop.diffusers import to_diffusers
from openwfm.randomness import torch_generator
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer

TOLERANCE = 1e-5  # largest difference of outputs, over the largest output
STREAM_SIDE = 64
STREAM_WINDOW = 3  # latent frames: the training length, 17 frames


def peak_of_decode(config: TokenizerConfig, clip: tuple[int, int, int]) -> dict[str, float]:
    """MiB that decoding a clip (t, h, w) takes beyond model and latents, its output included."""
    ours, theirs = (apart(decode_once, config, clip, peer) for peer in (False, True))
    return {"ours_mib": ours, "theirs_mib": theirs, "ratio": theirs / ours}


def peak_of_tiles(
    config: TokenizerConfig, clip: tuple[int, int, int], tile: int
) -> dict[str, float]:
    """MiB and seconds of decoding a clip whole, and in tiles of so many pixels a side.

    Asserts that both give the same pixels.
    """
    whole_mib, whole_seconds, whole = apart(decode_in_tiles, config, clip, None)
    tiled_mib, tiled_seconds, tiled = apart(decode_in_tiles, config, clip, tile)
    difference = float((tiled - whole).abs().max() / whole.abs().max())
    assert difference <= TOLERANCE, f"{clip} in tiles of {tile} differs by {difference:.1e}"
    return {
        "whole_mib": whole_mib,
        "tiled_mib": tiled_mib,
        "ratio": whole_mib / tiled_mib,
        "whole_seconds": whole_seconds,
        "tiled_seconds": tiled_seconds,
        "difference": difference,
    }


def peak_of_stream(config: TokenizerConfig, frames: int) -> dict[str, float]:
    """MiB and frames a second of a stream whose pixels are looked at and let go, 64x64."""
    mib, seconds = apart(decode_stream, config, frames)
    return {"peak_mib": mib, "frames_per_second": frames / seconds}


@torch.no_grad()
def decode_once(config: TokenizerConfig, clip: tuple[int, int, int], peer: bool) -> float:
    """In this process; ``peer`` is diffusers' module.

    Another module of the same kind decodes an image before, so that what the libraries set up once
    is not counted; what ours derives from the weights of this one is.
    """
    assert clip[1] == clip[2], clip
    size = config.spatial_compression
    latents = _latents(config, int(config.temporal.latent_frames(clip[0])), clip[1] // size)
    other, module = (_module(config, peer) for _ in range(2))
    other.decode(_latents(config, 1, 8))
    del other
    memory = Peak()
    module.decode(latents)
    return memory.mib()


@torch.no_grad()
def decode_in_tiles(
    config: TokenizerConfig, clip: tuple[int, int, int], tile: int | None
) -> tuple[float, float, torch.Tensor]:
    """In this process: MiB above the start, seconds, and every 16th row and column of the pixels.

    The smallest clip is decoded before, so that what is set up once is not counted.
    """
    torch.manual_seed(0)
    tokenizer, unit = VideoTokenizer(config).eval(), config.spatial_compression
    latents = _latents(config, int(config.temporal.latent_frames(clip[0])), clip[1] // unit)
    tokenizer.decode(_latents(config, 1, 8))
    memory, started = Peak(), time.perf_counter()
    video = tokenizer.decode(latents, tile=tile)
    return memory.mib(), time.perf_counter() - started, video[..., ::16, ::16].clone()


def _module(config: TokenizerConfig, peer: bool) -> Any:
    tokenizer = VideoTokenizer(config).eval()
    return to_diffusers(tokenizer) if peer else tokenizer


@torch.no_grad()
def decode_stream(config: TokenizerConfig, frames: int) -> tuple[float, float]:
    """In this process: MiB above the start, seconds."""
    tokenizer = VideoTokenizer(replace(config, attention_window=STREAM_WINDOW)).eval()
    ratio, rest = config.temporal_compression, frames
    chunk = _latents(config, 1, STREAM_SIDE // config.spatial_compression)
    decoder, memory, started = tokenizer.stream_decoder(), Peak(), time.perf_counter()
    while rest > 0:
        rest -= min(ratio, decoder.push(chunk).shape[2])
    decoder.finish()
    return memory.mib(), time.perf_counter() - started


class Peak:
    """Most memory of this process since now, above what it has now. Linux."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (man proc)
        self._start = _status("VmRSS")

    def mib(self) -> float:
        return (_status("VmHWM") - self._start) / 1024

    def grown_mib(self) -> float:
        """What it has now, above what it had then."""
        return (_status("VmRSS") - self._start) / 1024


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise RuntimeError(f"/proc/self/status: no {name}; memory is measured on Linux only")


def _latents(config: TokenizerConfig, frames: int, side: int) -> torch.Tensor:
    generator = torch_generator(0, "bench tokenizer latents")
    return torch.randn(1, config.latent_channels, frames, side, side, generator=generator)


def apart(function: Any, *arguments: Any) -> Any:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()
