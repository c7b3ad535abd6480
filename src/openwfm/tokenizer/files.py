"""Videos on disk to latents on disk and back, in memory that does not depend on their length.

Latents are one tensor of a safetensors file: ``latents``, ``f z y x`` fp32, or the ``indices``,
``f y x`` int32, of a discrete tokenizer. Time comes first, so that frames are appended and read in
order. The metadata say which tokenizer wrote them, and the size and frame rate of the video.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from openwfm.files import atomic_path, sha256_file
from openwfm.tokenizer.autoencoder import VideoTokenizer, load_tokenizer
from openwfm.tokenizer.checks import Pad, check_pad
from openwfm.video import from_uint8, open_video, to_uint8, write_chunks
from openwfm.weights import CONFIG, TENSORS, read_weights

HEADER = 4096  # bytes kept free for the header, which is known at the end only
TRAINING = "training"
LATENTS = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """A video to latents, or latents to a video: the endings say which.

    ``chunk`` latent frames are worked on at a time. ``attention_window`` is a number of latent
    frames, ``training`` (the length of the tokenizer's training clips), or null for what the
    weights say; latents are decoded with the window that they were encoded with.
    """

    tokenizer: str
    source: str
    out: str
    chunk: int = 1
    pad: str | None = None
    attention_window: int | str | None = TRAINING
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not isinstance(self.out, str):
            raise ValueError("out: needs a value, a file for the latents or the video")
        endings = Path(self.source).suffix == LATENTS, Path(self.out).suffix
        if endings not in ((False, LATENTS), (True, ".mp4")):
            raise ValueError(
                f"out={self.out}: must end in {LATENTS} for a video, and in .mp4 for in=….{LATENTS}"
            )
        check_pad(self.pad)
        check_counts(self, ("chunk", "attention_window"))


def check_counts(config: object, names: Sequence[str]) -> None:
    """Raises ValueError for a field that is no whole number from 1 on; all but ``chunk`` may be
    null, and ``attention_window`` `TRAINING`."""
    for name in names:
        value = getattr(config, name)
        if name == "attention_window" and isinstance(value, str):
            if value != TRAINING:
                raise ValueError(f"{name}={value}: must be a number, {TRAINING} or null")
        elif value is None and name != "chunk":
            continue
        elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}={value}: must be a whole number, at least 1")


@dataclass(frozen=True)
class Report:
    """Pixel frames and latent frames of the video that went through."""

    num_frames: int
    num_latents: int
    num_state_elements: int


@torch.no_grad()
def tokenize_file(config: TokenizeConfig) -> Report:
    """Encode the video ``config.source``. Raises ValueError as `VideoTokenizer.encode` does."""
    window = training_window(config.tokenizer, config.attention_window)
    tokenizer = load_tokenizer(config.tokenizer, attention_window=window).to(config.device)
    pad: Pad = "replicate" if config.pad else None
    encoder = tokenizer.stream_encoder(pad=pad)
    discrete = tokenizer.config.fsq_levels is not None
    writer = _Frames("indices" if discrete else "latents")
    with open_video(config.source) as (images, fps), atomic_path(config.out) as temporary:
        size = (0, 0)
        with open(temporary, "wb") as file:
            file.seek(8 + HEADER)
            for chunk in _chunks(images, config.chunk * tokenizer.temporal.ratio):
                size = (chunk.shape[1], chunk.shape[2])
                video = from_uint8(chunk)[None].to(config.device)
                writer.append(file, _stored(tokenizer, encoder.push(video)))
            writer.append(file, _stored(tokenizer, encoder.finish()))
            facts = {
                "tokenizer": sha256_file(Path(config.tokenizer) / TENSORS),
                "attention_window": tokenizer.config.attention_window,
                "size": [encoder.num_pushed, *size],
                "fps": fps,
            }
            writer.finish(file, facts)
    return Report(encoder.num_pushed, writer.count, encoder.num_state_elements)


@torch.no_grad()
def detokenize_file(config: TokenizeConfig) -> Report:
    """Decode the latents ``config.source`` to an mp4; ValueError when others' or damaged."""
    name, facts = _facts(config)
    window = facts["attention_window"]
    tokenizer = load_tokenizer(config.tokenizer, attention_window=window).to(config.device)
    t, h, w = facts["size"]
    decoder = tokenizer.stream_decoder(crop=(t, h, w))

    def pixels() -> Iterator[Tensor]:
        with safe_open(config.source, framework="pt") as file:
            frames = file.get_slice(name)
            for start in range(0, frames.get_shape()[0], config.chunk):
                part = frames[start : start + config.chunk][None].to(config.device)
                latents = tokenizer.codes(part) if name == "indices" else part.transpose(1, 2)
                yield to_uint8(decoder.push(latents)[0])
        decoder.finish()

    write_chunks(config.out, pixels(), facts["fps"], {"tokenized": facts})
    return Report(t, decoder.num_pushed, decoder.num_state_elements)


class _Frames:
    """Appends to one tensor of a safetensors file; its header is written last."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0
        self._shape: list[int] = []
        self._bytes, self._dtype = 0, ""

    def append(self, file: Any, frames: Tensor) -> None:
        array = frames.cpu().numpy()
        self._dtype = {"float32": "F32", "int32": "I32"}[str(array.dtype)]
        self._shape = list(array.shape[1:])
        self.count += len(array)
        self._bytes += file.write(array.tobytes())

    def finish(self, file: Any, facts: dict[str, Any]) -> None:
        shape = [self.count, *self._shape]
        entry = {"dtype": self._dtype, "shape": shape, "data_offsets": [0, self._bytes]}
        header = json.dumps({"__metadata__": {"openwfm": json.dumps(facts)}, self.name: entry})
        assert len(header) <= HEADER, header
        file.seek(0)
        file.write(struct.pack("<Q", HEADER) + header.encode().ljust(HEADER))


def _chunks(images: Iterator[np.ndarray], length: int) -> Iterator[Tensor]:
    while batch := list(islice(images, length)):
        yield torch.from_numpy(np.stack(batch))


def _stored(tokenizer: VideoTokenizer, latents: Tensor) -> Tensor:
    """Frames first, of one clip."""
    if tokenizer.config.fsq_levels is not None:
        return tokenizer.indices(latents)[0]
    return latents[0].transpose(0, 1).float()


def training_window(folder: str, attention_window: int | str | None) -> int | None:
    """Latent frames of the training clips of the tokenizer in ``folder`` for `TRAINING`, else as
    given. Raises ValueError when its config does not say."""
    if not isinstance(attention_window, str):
        return attention_window
    published, _ = read_weights(folder, kind="tokenizer")
    if published["net"]["temporal_compression"] == 1:
        return None
    frames = published.get("data", {}).get("num_frames")
    if not isinstance(frames, int):
        raise ValueError(
            f"attention_window={TRAINING}: {Path(folder) / CONFIG} does not say "
            "data.num_frames; give a number of latent frames, or null for no limit"
        )
    return 1 + (frames - 1) // int(published["net"]["temporal_compression"])


def _facts(config: TokenizeConfig) -> tuple[str, dict[str, Any]]:
    """Name of the tensor in the source, and what its writer noted."""
    try:
        with safe_open(config.source, framework="pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{config.source}: not a whole safetensors file ({error})") from error
    if "openwfm" not in metadata or names not in (["latents"], ["indices"]):
        raise ValueError(f"{config.source}: holds {names}: must be written by openwfm tokenize")
    facts = json.loads(metadata["openwfm"])
    ours = sha256_file(Path(config.tokenizer) / TENSORS)
    if facts["tokenizer"] != ours:
        raise ValueError(
            f"tokenizer={config.tokenizer}: its weights ({ours[:12]}) did not write "
            f"{config.source} ({facts['tokenizer'][:12]})"
        )
    return names[0], facts
