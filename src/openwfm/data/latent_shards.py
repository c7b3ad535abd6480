"""Latents of clips in shards: what ``openwfm tokenize shards`` writes, read without copies.

A folder of shards whose samples have the ids of the clips they are of, so it lies beside the folder
of those clips. ``latent.npy`` holds, in fp16, ``n z f y x`` of n windows that begin ``stride``
frames apart (or one, of the whole clip), or int32 indices ``n f y x`` of a discrete tokenizer;
``json`` is the clip's own. ``latents.json`` in the folder says whose latents they are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.data.latents import frame_statistics
from openwfm.data.shards import INDEX, ShardIndex
from openwfm.data.windows import Window
from openwfm.files import read_json
from openwfm.shapes import Temporal

FACTS, MEMBER = "latents.json", "latent.npy"
WHOLE = 0  # as `num_frames` and `stride`: one window, the whole clip


@dataclass(frozen=True, kw_only=True)
class LatentFacts:
    """Whose latents a folder holds.

    ``tokenizer`` and ``manifest`` are checksums of the weights and of the clips' manifest;
    ``num_frames`` and ``stride`` count pixel frames, `WHOLE` for whole clips; the
    ``attention_window`` counts latent frames.
    """

    tokenizer: str
    manifest: str
    temporal_compression: int
    discrete: bool
    num_frames: int
    stride: int
    attention_window: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, folder: Path | str) -> LatentFacts:
        """Raises ValueError naming the file when it says something else."""
        file = Path(folder) / FACTS
        found = read_json(file)
        names = {item.name for item in fields(cls)}
        if not isinstance(found, dict) or set(found) != names:
            raise ValueError(f"{file}: must hold {', '.join(sorted(names))}")
        return cls(**found)

    def describe(self) -> str:
        if self.num_frames == WHOLE:
            return "whole clips"
        return f"windows of {self.num_frames} frames, every {self.stride} frames"


class LatentShards:
    """A finished folder of latents."""

    def __init__(self, index: ShardIndex, facts: LatentFacts) -> None:
        self.index, self.facts = index, facts
        self.temporal = Temporal(ratio=facts.temporal_compression)
        self._arrays: dict[str, np.ndarray] = {}

    @staticmethod
    def is_one(folder: Path | str) -> bool:
        return (Path(folder) / FACTS).is_file() and (Path(folder) / INDEX).is_file()

    @classmethod
    def open(cls, folder: Path | str) -> LatentShards:
        """Raises ValueError naming the file that is missing or damaged."""
        return cls(ShardIndex.open(folder), LatentFacts.read(folder))

    def require(self, manifest: str, tokenizer: str) -> None:
        """Raises ValueError when the latents are of other clips or of another tokenizer."""
        for name, ours, wanted in (
            ("clips with manifest", self.facts.manifest, manifest),
            ("a tokenizer with weights", self.facts.tokenizer, tokenizer),
        ):
            if ours != wanted:
                raise ValueError(
                    f"data.latents={self.index.root}: latents of {name} {ours[:12]}, not "
                    f"{wanted[:12]}; write others with: openwfm tokenize shards"
                )

    def array(self, key: str) -> np.ndarray:
        """``latent.npy`` of a clip, memory-mapped."""
        if key not in self._arrays:
            file, offset, size = self.index.locate(key, MEMBER)
            data = np.memmap(file, np.uint8, "r", offset, (size,))
            stream = io.BytesIO(data[:4096].tobytes())
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"clip {key}: {MEMBER} of version {version}: must be (1, 0)")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            expected = np.dtype(np.int32 if self.facts.discrete else np.float16)
            if dtype != expected or fortran or len(shape) != (4 if self.facts.discrete else 5):
                raise ValueError(f"clip {key}: {MEMBER}: {dtype} of shape {shape}: not latents")
            self._arrays[key] = data[stream.tell() :].view(dtype).reshape(shape)
        return self._arrays[key]

    def rows(self, windows: Sequence[Window]) -> LatentRows:
        """Raises ValueError for the first window whose latents are not here."""
        for window in windows:
            self._find(window)
        return LatentRows(self, windows)

    def _find(self, window: Window) -> tuple[int, int]:
        """Which latents of the clip a window has, and how many latent frames of them.

        A clip's first frames have the latents of any longer clip, because a tokenizer is causal.
        """
        facts = self.facts
        count = int(self.temporal.latent_frames(window.num_frames))
        number, beside = divmod(window.start, facts.stride) if facts.stride else (0, window.start)
        stored = self.array(window.key)
        frames = stored.shape[1 if facts.discrete else 2]
        seen = facts.attention_window is None or count <= facts.attention_window
        if beside or number >= len(stored) or count > frames or not seen:
            limit = "" if seen else f", attending to {facts.attention_window} latent frames"
            raise ValueError(
                f"data.latents={self.index.root}: has {facts.describe()}{limit}; none of the "
                f"{window.num_frames} frames from {window.start} of clip {window.key} "
                "(openwfm tokenize shards num_frames=… stride=…)"
            )
        return number, count

    def read(self, window: Window) -> Tensor:
        """fp32 ``z f y x``, or int32 ``f y x``."""
        number, count = self._find(window)
        latents = self.array(window.key)[number]
        if self.facts.discrete:
            return torch.from_numpy(np.array(latents[:count]))
        return torch.from_numpy(latents[:, :count].astype(np.float32))

    def __getstate__(self) -> dict[str, Any]:
        """Maps do not travel to another process."""
        return {**self.__dict__, "_arrays": {}}


class LatentRows:
    """The latents of a list of windows (`openwfm.data.latents.Latents`)."""

    def __init__(self, shards: LatentShards, windows: Sequence[Window]) -> None:
        self.shards, self.windows = shards, tuple(windows)

    def __len__(self) -> int:
        return len(self.windows)

    def read(self, row: int) -> Tensor:
        return self.shards.read(self.windows[row])

    def statistics(self) -> tuple[Float[Tensor, "z f"], Float[Tensor, "z f"]]:
        """Mean and standard deviation per channel and latent frame; ValueError for indices."""
        if self.shards.facts.discrete:
            raise ValueError(
                f"data.latents={self.shards.index.root}: indices of a discrete tokenizer; "
                "a world model of continuous latents needs those of a continuous one"
            )
        return frame_statistics(self)
