"""The clips of a tokenizer benchmark: windows of shards, or the beginnings of video files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.shards import INDEX
from openwfm.evaluation.clips import DrawnClips
from openwfm.files import sha256_file
from openwfm.video import from_uint8, open_video

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".png", ".jpg", ".jpeg")
MULTIPLE = 16  # of sides: what every published compression divides


@dataclass(frozen=True, eq=False)
class BenchClip:
    key: str
    fps: float
    video: Float[Tensor, "c t h w"]


@dataclass(frozen=True, kw_only=True)
class BenchData:
    """``data`` is a folder of shards, of which split ``split`` is used, or of video files.

    Of a file the first ``seconds`` count (10 in TokenBench), scaled to ``short_side`` pixels (1080
    there; None: as it is), cropped in the centre to sides that are multiples of 16, and cut into
    windows of ``num_frames``; a rest is left out. At most ``num_clips`` windows are used: of
    shards drawn at random, of files taken in turn from each.
    """

    data: str
    num_frames: int = 17
    num_clips: int = 64
    short_side: int | None = None
    seconds: float = 10.0
    split: str = "test"
    kinds: tuple[str, ...] = ("simulated", "natural")
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if not Path(self.data).is_dir():
            raise ValueError(f"data={self.data}: must be a folder of shards or of videos")
        for name in ("num_frames", "num_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.short_side is not None and self.short_side < MULTIPLE:
            raise ValueError(f"short_side={self.short_side}: must be at least {MULTIPLE}")
        if not self.seconds > 0:
            raise ValueError(f"seconds={self.seconds}: must be above 0")

    @property
    def is_shards(self) -> bool:
        return Path(self.data, INDEX).is_file()

    def identity(self) -> str:
        """A hash of what the clips are cut from."""
        if self.is_shards:
            return sha256_file(Path(self.data, INDEX))
        return " ".join(sha256_file(file)[:16] for file in self.files())

    def files(self) -> list[Path]:
        found = sorted(file for file in Path(self.data).rglob("*") if file.suffix.lower() in VIDEOS)
        if not found:
            raise ValueError(f"data={self.data}: holds no {', '.join(VIDEOS)}, and no {INDEX}")
        return found

    def __iter__(self) -> Iterator[BenchClip]:
        return self._from_shards() if self.is_shards else self._from_files()

    def _from_shards(self) -> Iterator[BenchClip]:
        config = DataConfig(
            shards=self.data, num_frames=self.num_frames, kinds=self.kinds, seed=self.seed
        )
        drawn = DrawnClips(
            ShardDataModule(config=config),
            self.split,
            num_clips=self.num_clips,
            batch_size=1,
            seed=self.seed,
        )
        for batch in drawn:
            assert batch.video is not None
            yield BenchClip(batch.key[0], float(batch.fps[0]), batch.video[0])

    def _from_files(self) -> Iterator[BenchClip]:
        waiting = [self._windows(file) for file in self.files()]
        count = 0
        while waiting and count < self.num_clips:
            windows = waiting.pop(0)
            clip = next(windows, None)
            if clip is not None:
                waiting.append(windows)
                count += 1
                yield clip
        if not count:
            raise ValueError(
                f"num_frames={self.num_frames}: longer than the first {self.seconds:g} s of every "
                f"video in {self.data}"
            )

    def _windows(self, file: Path) -> Iterator[BenchClip]:
        with open_video(file) as (frames, fps):
            left = islice(frames, max(1, round(self.seconds * fps)))
            index = 0
            while len(window := list(islice(left, self.num_frames))) == self.num_frames:
                video = from_uint8(torch.from_numpy(np.stack(window)))
                yield BenchClip(f"{file.stem}/{index}", fps, self._sized(video))
                index += 1

    def _sized(self, video: Float[Tensor, "c t h w"]) -> Float[Tensor, "c t y x"]:
        height, width = video.shape[2:]
        if self.short_side is not None:
            factor = self.short_side / min(height, width)
            size = max(MULTIPLE, round(height * factor)), max(MULTIPLE, round(width * factor))
            frames = rearrange(video, "c t h w -> t c h w")
            frames = F.interpolate(frames, size, mode="bicubic", antialias=True).clamp(-1, 1)
            video = rearrange(frames, "t c h w -> c t h w")
        height, width = video.shape[2:]
        rows, columns = height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE
        if not rows or not columns:
            raise ValueError(f"data={self.data}: a video of {width}x{height} is below {MULTIPLE}")
        top, left = (height - rows) // 2, (width - columns) // 2
        return video[:, :, top : top + rows, left : left + columns].contiguous()
