"""Clips in shards to latents in shards, and the statistics of latents (``openwfm tokenize``)."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from openwfm.data.latent_shards import FACTS, MEMBER, WHOLE, LatentFacts, LatentShards
from openwfm.data.running import RunningStatistics
from openwfm.data.shards import INDEX, ShardWriter
from openwfm.data.shardset import ShardSet
from openwfm.data.windows import decode_clip
from openwfm.files import atomic_path, sha256_file, write_json
from openwfm.tokenizer.autoencoder import VideoTokenizer, load_tokenizer
from openwfm.tokenizer.files import TRAINING, check_counts, training_window
from openwfm.tokenizer.statistics import LatentStatistics, write_statistics
from openwfm.video import from_uint8
from openwfm.weights import TENSORS

PARTIAL = ".partial"  # latents of clips that are done, until all are


@dataclass(frozen=True, kw_only=True)
class TokenizeShardsConfig:
    """Latents of the clips in ``source``, one folder of shards or several.

    With ``num_frames``, of windows of that many frames that begin ``stride`` frames apart (null:
    that far that they do not overlap), which is what world models train on; without, of whole
    clips, streamed ``chunk`` latent frames at a time, up to the last frame that completes a latent.
    ``out`` is a new folder; statistics need none. ``attention_window`` as in `TokenizeConfig`.
    """

    tokenizer: str
    source: str | tuple[str, ...]
    out: str | None = None
    num_frames: int | None = None
    stride: int | None = None
    chunk: int = 1
    attention_window: int | str | None = TRAINING
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            object.__setattr__(self, "source", tuple(self.source))
        check_counts(self, ("chunk", "attention_window", "num_frames", "stride"))
        if self.stride is not None and self.num_frames is None:
            raise ValueError(f"stride={self.stride}: must be null without num_frames (whole clips)")
        if self.out is not None and Path(self.out).resolve() in map(Path.resolve, self.folders):
            raise ValueError(f"out={self.out}: must not be a folder of the clips")

    @property
    def folders(self) -> tuple[Path, ...]:
        names = (self.source,) if isinstance(self.source, str) else self.source
        return tuple(map(Path, names))


@dataclass(frozen=True)
class Latents:
    """Numbers of clips, those encoded now, and latent frames."""

    num_clips: int
    num_encoded: int
    num_latents: int


class _Clips:
    """The clips of a request, encoded one by one."""

    def __init__(self, config: TokenizeShardsConfig) -> None:
        self.config = config
        window = training_window(config.tokenizer, config.attention_window)
        tokenizer = load_tokenizer(config.tokenizer, attention_window=window)
        self.tokenizer = tokenizer.to(config.device).requires_grad_(False)
        if config.num_frames is not None:
            tokenizer.temporal.latent_frames(config.num_frames)
        self.index = ShardSet.open([str(folder) for folder in config.folders])
        self.facts = LatentFacts(
            tokenizer=sha256_file(Path(config.tokenizer) / TENSORS),
            manifest=self.index.manifest_sha256,
            temporal_compression=tokenizer.config.temporal_compression,
            discrete=tokenizer.config.fsq_levels is not None,
            num_frames=config.num_frames or WHOLE,
            stride=config.stride or config.num_frames or WHOLE,
            attention_window=tokenizer.config.attention_window,
        )

    def encode(self, key: str) -> Float[Tensor, "n z f y x"] | None:
        """Latents of a clip's windows; None when the clip is shorter than one."""
        frames = decode_clip(self.index.read(key, "mp4"), key)
        try:
            if self.config.num_frames is None:
                return self._stream(frames)
            return self._windows(frames, self.config.num_frames)
        except ValueError as error:
            raise ValueError(f"clip {key}: {error}") from error

    def _windows(self, frames: UInt8[np.ndarray, "t h w c"], length: int) -> Tensor | None:
        starts = range(0, len(frames) - length + 1, self.facts.stride)
        if not starts:
            return None
        parts = [self._encode(frames[start : start + length]) for start in starts]
        return torch.cat(parts)

    def _encode(self, frames: UInt8[np.ndarray, "t h w c"]) -> Tensor:
        with torch.no_grad():
            return self.tokenizer.encode(self._video(frames))

    def _stream(self, frames: UInt8[np.ndarray, "t h w c"]) -> Tensor:
        ratio = self.facts.temporal_compression
        whole = 1 + (len(frames) - 1) // ratio * ratio
        encoder, step = self.tokenizer.stream_encoder(), self.config.chunk * ratio
        parts = [
            encoder.push(self._video(frames[start : min(start + step, whole)]))
            for start in range(0, whole, step)
        ]
        return torch.cat([*parts, encoder.finish()], 2)

    def _video(self, frames: UInt8[np.ndarray, "t h w c"]) -> Tensor:
        return from_uint8(torch.from_numpy(frames))[None].to(self.config.device)


def tokenize_shards(config: TokenizeShardsConfig) -> Latents:
    """Write the latents of every clip; a killed run goes on where it was.

    Latents of clips that are done wait in ``out/.partial`` until all are; ``index.json`` comes
    last. Clips shorter than ``num_frames`` are left out. Raises ValueError for a folder that holds
    latents of something else, and naming the clip when one does not fit or overflows fp16.
    """
    if config.out is None:
        raise ValueError("out: needs a value, a folder for the latents")
    clips, out = _Clips(config), Path(config.out)
    if (out / INDEX).is_file():
        _require_same(out / FACTS, clips.facts)
        return Latents(*_count(LatentShards.open(out)))
    waiting = out / PARTIAL
    if (waiting / FACTS).is_file():
        _require_same(waiting / FACTS, clips.facts)
    write_json(waiting / FACTS, clips.facts.to_json())
    missing = [key for key in clips.index.keys if not (waiting / f"{key}.npy").is_file()]
    for key in tqdm(missing, desc="encode clips", unit="clip"):
        latents = clips.encode(key)
        with atomic_path(waiting / f"{key}.npy") as temporary:
            temporary.write_bytes(_npy(clips.tokenizer, latents, key))
    _pack(clips, waiting, out)
    shutil.rmtree(waiting)
    num_clips, _, num_latents = _count(LatentShards.open(out))
    return Latents(num_clips, len(missing), num_latents)


def _require_same(file: Path, facts: LatentFacts) -> None:
    found = LatentFacts.read(file.parent) if file.is_file() else None
    if found != facts:
        was = "no latents" if found is None else f"other latents ({found.describe()})"
        raise ValueError(
            f"out={file.parent}: holds {was}, of weights "
            f"{found.tokenizer[:12] if found else 'unknown'}; give another folder or remove it"
        )


def _npy(tokenizer: VideoTokenizer, latents: Tensor | None, key: str) -> bytes:
    """The member's bytes; none for a clip that has no window."""
    if latents is None:
        return b""
    if tokenizer.config.fsq_levels is not None:
        values = tokenizer.indices(latents).cpu().numpy().astype(np.int32)
    else:
        values = latents.cpu().to(torch.float16).numpy()
        if not np.isfinite(values).all():
            raise ValueError(f"clip {key}: its latents are not finite in fp16")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _pack(clips: _Clips, waiting: Path, out: Path) -> None:
    writer = ShardWriter(out)
    rows: list[dict[str, Any]] = []
    for key in clips.index.keys:
        data = (waiting / f"{key}.npy").read_bytes()
        source = str(clips.index.metadata(key)["source"])
        rows.append({"record": "latents", "id": key, "status": "kept" if data else "rejected"})
        rows[-1] |= {"reason": "" if data else "shorter than num_frames", "source": source}
        if data:
            members = {MEMBER: data, "json": clips.index.read(key, "json")}
            writer.add(clips.index.folder(key), key, source, members)
    if all(row["reason"] for row in rows):
        raise ValueError(f"num_frames={clips.config.num_frames}: longer than every clip")
    write_json(out / FACTS, clips.facts.to_json())
    writer.finish(pa.Table.from_pylist(rows), fingerprint=clips.facts.tokenizer)


def _count(stored: LatentShards) -> tuple[int, int, int]:
    shapes = [stored.array(key).shape for key in stored.index.keys]
    axis = 1 if stored.facts.discrete else 2
    return len(shapes), 0, sum(shape[0] * shape[axis] for shape in shapes)


def measure_statistics(config: TokenizeShardsConfig) -> LatentStatistics:
    """Statistics of the latents of ``source``, written beside the tokenizer's weights.

    ``source`` holds clips, which are encoded as `tokenize_shards` does, or latents that it wrote.
    Of a discrete tokenizer they are those of its codes.
    """
    running = RunningStatistics()
    parts: Iterator[Tensor | None]
    if isinstance(config.source, str) and LatentShards.is_one(config.source):
        stored = LatentShards.open(config.source)
        stored.require(stored.facts.manifest, sha256_file(Path(config.tokenizer) / TENSORS))
        facts, keys = stored.facts.to_json(), stored.index.keys
        parts = _stored(stored, load_tokenizer(config.tokenizer))
    else:
        clips = _Clips(config)
        facts, keys = clips.facts.to_json(), clips.index.keys
        parts = (clips.encode(key) for key in keys)
    for latents in tqdm(parts, desc="measure latents", unit="clip", total=len(keys)):
        if latents is not None:
            running.update(latents)
    statistics = LatentStatistics.of(running, {**facts, "num_clips": len(keys)})
    write_statistics(config.tokenizer, statistics)
    return statistics


def _stored(stored: LatentShards, tokenizer: VideoTokenizer) -> Iterator[Tensor | None]:
    for key in stored.index.keys:
        values = torch.from_numpy(np.array(stored.array(key)))
        yield tokenizer.codes(values) if stored.facts.discrete else values
