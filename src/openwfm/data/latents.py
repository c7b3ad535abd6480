"""A cache of tokenizer latents, so that a world model trains without re-encoding its windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from openwfm.data.running import RunningStatistics
from openwfm.data.windows import FrameCache, Window
from openwfm.files import atomic_path, read_json, write_json

Encode = Callable[[Float[Tensor, "b *v c t h w"]], Float[Tensor, "b z f y x"]]


def to_video(frames: np.ndarray, num_views: int = 1) -> Float[Tensor, "*v c t h w"]:
    """uint8 ``t h w c`` → float in [-1, 1], ``c t h w``. Several views lie below each other in the
    pictures, and get an axis of their own."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2).float() / 127.5 - 1
    return video if num_views == 1 else video.unflatten(2, (num_views, -1)).movedim(2, 0)


class Latents(Protocol):
    """Raw latents of a list of windows: row i belongs to window i."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> Tensor:
        """fp32 ``z f y x``, or int32 ``f y x`` indices of a discrete tokenizer."""
        ...

    def statistics(self) -> tuple[Float[Tensor, "z f"], Float[Tensor, "z f"]]: ...


def frame_statistics(latents: Latents) -> tuple[Float[Tensor, "z f"], Float[Tensor, "z f"]]:
    """Mean and standard deviation per channel and latent frame, fp32."""
    running = RunningStatistics()
    for start in range(0, len(latents), 256):
        stop = min(start + 256, len(latents))
        running.update(torch.stack([latents.read(row) for row in range(start, stop)]))
    moments = running.per_frame()
    return moments.mean.float(), moments.std.float()


class LatentCache:
    """Latents of a list of windows, fp16, memory-mapped; row i belongs to window i."""

    def __init__(self, latents: np.ndarray, header: Mapping[str, Any]) -> None:
        self.latents, self.header = latents, header

    def read(self, row: int) -> Float[Tensor, "z f y x"]:
        return torch.from_numpy(np.asarray(self.latents[row], dtype=np.float32))

    def __len__(self) -> int:
        return len(self.latents)

    def statistics(self) -> tuple[Float[Tensor, "z f"], Float[Tensor, "z f"]]:
        """Mean and standard deviation per channel and latent frame (arXiv 2501.03575 code 6.5)."""
        return frame_statistics(self)

    @classmethod
    def open(cls, folder: Path, identity: Mapping[str, Any]) -> LatentCache | None:
        """The cache in ``folder`` if it holds exactly what ``identity`` describes, else None."""
        header, array = folder / "latents.json", folder / "latents.npy"
        if not (header.is_file() and array.is_file()):
            return None
        found = read_json(header)
        if found != dict(identity):
            return None
        return cls(np.load(array, mmap_mode="r", allow_pickle=False), found)

    @classmethod
    def write(
        cls,
        folder: Path,
        identity: Mapping[str, Any],
        frames: FrameCache,
        windows: Sequence[Window],
        encode: Encode,
        batch_size: int = 8,
        num_views: int = 1,
    ) -> LatentCache:
        """Encode every window; the files appear only when all of them are encoded."""
        with atomic_path(folder / "latents.npy", suffix=".npy") as temporary:
            store: np.memmap | None = None
            starts = range(0, len(windows), batch_size)
            for start in tqdm(starts, desc="encode latents", unit="batch"):
                part = windows[start : start + batch_size]
                with torch.no_grad():
                    rows = encode(torch.stack([to_video(frames.read(w), num_views) for w in part]))
                values = rows.to(torch.float16).numpy()
                if not np.isfinite(values).all():
                    raise ValueError(f"latents of {part[0].key}: not finite in fp16")
                if store is None:
                    shape = (len(windows), *values.shape[1:])
                    store = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
                store[start : start + len(part)] = values
            if store is None:
                raise ValueError("latents: no windows to encode")
            store.flush()
        write_json(folder / "latents.json", dict(identity))
        opened = cls.open(folder, identity)
        assert opened is not None
        return opened
