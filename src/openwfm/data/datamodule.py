"""ShardDataModule: windows of curated clips as VideoBatch."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from openwfm.data.batch import VideoBatch
from openwfm.data.config import DataConfig
from openwfm.data.latent_shards import LatentShards
from openwfm.data.latents import Encode, LatentCache, Latents, to_video
from openwfm.data.order import BatchOrder, split_sources
from openwfm.data.shards import ShardIndex
from openwfm.data.shardset import ShardSet
from openwfm.data.windows import FrameCache, Window, cut_windows
from openwfm.randomness import numpy_generator


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One window before it is collated."""

    key: str
    fps: float
    caption: str
    video: Float[Tensor, "c t h w"] | None
    latents: Float[Tensor, "z f y x"] | Int[Tensor, "f y x"] | None
    text: Float[Tensor, "n d"] | None


class WindowDataset(Dataset[Sample]):
    """Item (index, position): window ``index``, augmented as position ``position`` of the run."""

    def __init__(
        self,
        config: DataConfig,
        index: ShardSet,
        frames: FrameCache,
        windows: list[Window],
        latents: Latents | None = None,
    ) -> None:
        self.config, self.index, self.frames = config, index, frames
        self.windows, self.latents = windows, latents
        self._texts: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, item: tuple[int, int] | int) -> Sample:
        row, position = item if isinstance(item, tuple) else (item, -1)
        window = self.windows[row]
        facts = self.index.metadata(window.key)
        video = None
        if self.latents is None:
            video = to_video(self.frames.read(window))
            random = numpy_generator(self.config.seed, "augment", position)
            if position >= 0 and random.random() < self.config.flip:
                video = video.flip(-1)
        return Sample(
            key=window.key,
            fps=float(facts["fps"]),
            caption=str(facts.get("caption") or ""),
            video=video,
            latents=None if self.latents is None else self.latents.read(row),
            text=self._text(window.key),
        )

    def _text(self, key: str) -> Tensor | None:
        if self.config.text == "none":
            return None
        if key not in self._texts:
            self._texts[key] = self._read_text(key)
        return self._texts[key]

    def _read_text(self, key: str) -> Tensor:
        if "text.npy" not in self.index.members(key):
            if self.config.text == "optional":
                return torch.zeros(0, 0)
            raise ValueError(
                f"clip {key}: has no text.npy; curate with a text encoder, or set data.config.text="
                "optional"
            )
        data = np.load(io.BytesIO(self.index.read(key, "text.npy")), allow_pickle=False)
        return torch.from_numpy(data.astype(np.float32))


def collate(samples: list[Sample], text_tokens: int) -> VideoBatch:
    """Stack windows; token embeddings are cut or zero-padded to ``text_tokens`` (unmasked)."""
    first = samples[0]
    return VideoBatch(
        key=tuple(sample.key for sample in samples),
        fps=torch.tensor([sample.fps for sample in samples]),
        caption=tuple(sample.caption for sample in samples),
        video=_stack([s.video for s in samples]) if first.video is not None else None,
        **_latents([sample.latents for sample in samples]),
        text=_pad([s.text for s in samples], text_tokens) if first.text is not None else None,
    )


def _latents(items: list[Tensor | None]) -> dict[str, Tensor]:
    """As the field of VideoBatch that they belong to."""
    if items[0] is None:
        return {}
    return {"latents" if items[0].is_floating_point() else "tokens": _stack(items)}


def _stack(items: list[Tensor | None]) -> Tensor:
    return torch.stack([item for item in items if item is not None])


def _pad(texts: list[Tensor | None], length: int) -> Tensor:
    present = [text for text in texts if text is not None]
    width = max(text.shape[1] for text in present)
    out = torch.zeros(len(present), length, width)
    for row, text in zip(out, present, strict=True):
        count = min(length, len(text))
        if count:
            row[:count] = text[:count]
    return out


class _Collate:
    def __init__(self, text_tokens: int) -> None:
        self.text_tokens = text_tokens

    def __call__(self, samples: list[Sample]) -> VideoBatch:
        return collate(samples, self.text_tokens)


class ShardDataModule(lightning.LightningDataModule):
    """Windows of the clips of a curated folder, split into train, val and test by source video."""

    def __init__(self, *, config: DataConfig) -> None:
        super().__init__()
        self.config = config
        self.index: ShardSet | None = None
        self.latents: Latents | None = None
        self._caches: dict[str, FrameCache] = {}

    @property
    def manifest_sha256(self) -> str:
        return self._open().manifest_sha256

    def export_config(self) -> dict[str, Any]:
        """What published weights say of the data they were trained on."""
        frames, index = self.frames("train"), self._open()
        rates = sorted({float(index.metadata(key)["fps"]) for key in frames.lengths})
        return {
            "num_frames": self.config.num_frames,
            "size": list(frames.size),
            "fps": rates[len(rates) // 2],
            "text_tokens": self.config.text_tokens,
            "kinds": list(self.config.kinds),
            "split": list(self.config.split),
            "seed": self.config.seed,
            "num_clips": len(frames.lengths),
            "manifest_sha256": index.manifest_sha256,
        }

    def _open(self) -> ShardSet:
        if self.index is None:
            self.index = ShardSet.open(self.config.folders)
        return self.index

    def keys(self, split: str) -> list[str]:
        """Clip ids of a split, sorted. Each folder is split on its own, so that its held-out
        clips stay the same beside whatever other folders."""
        return sorted(key for index in self._open().indexes for key in self._keys_of(index, split))

    def _keys_of(self, index: ShardIndex, split: str) -> list[str]:
        facts = {key: index.metadata(key) for key in index.keys}
        kinds = {f["source"]: f["kind"] for f in facts.values()}
        splits = split_sources(kinds, self.config.split, self.config.seed)
        return [
            key
            for key, f in facts.items()
            if f["kind"] in self.config.kinds and splits[f["source"]] == split
        ]

    def frames(self, split: str) -> FrameCache:
        if split not in self._caches:
            index, keys = self._open(), self.keys(split)
            if not keys:
                raise ValueError(
                    f"{index.root}: no clips of kind {', '.join(self.config.kinds)} in split "
                    f"{split}; a split needs sources of its own (three or more raw videos)"
                )
            name = hashlib.sha256(" ".join([index.manifest_sha256, *keys]).encode()).hexdigest()
            folder = index.root / ".cache" / f"{split}-{name[:12]}"
            self._caches[split] = FrameCache.open(folder, index, keys)
        return self._caches[split]

    def windows(self, split: str) -> list[Window]:
        """Overlapping windows for training, disjoint ones for val and test."""
        config = self.config
        stride = config.window_stride if split == "train" else config.num_frames
        windows = cut_windows(self.frames(split).lengths, config.num_frames, stride)
        if not windows:
            raise ValueError(
                f"data.num_frames={config.num_frames}: longer than every clip of split {split}"
            )
        return windows

    def dataset(self, split: str) -> WindowDataset:
        latents = self.latents if split == "train" else None
        config = self.config if split == "train" else replace(self.config, flip=0.0)
        return WindowDataset(config, self._open(), self.frames(split), self.windows(split), latents)

    def prepare_latents(self, encode: Encode, tokenizer_sha256: str) -> Latents:
        """Open the training split's latents, writing them with ``encode`` on first use.

        A folder of `openwfm tokenize shards` is read as it is. Raises ValueError when it is of
        other clips or another tokenizer, or holds no latents of some window.
        """
        assert self.config.latents is not None
        windows = self.windows("train")
        if LatentShards.is_one(self.config.latents):
            stored = LatentShards.open(self.config.latents)
            stored.require(self.manifest_sha256, tokenizer_sha256)
            self.latents = stored.rows(windows)
            return self.latents
        identity: dict[str, Any] = {
            "manifest": self.manifest_sha256,
            "tokenizer": tokenizer_sha256,
            "seed": self.config.seed,
            "kinds": list(self.config.kinds),
            "split": list(self.config.split),
            "num_frames": self.config.num_frames,
            "window_stride": self.config.window_stride,
            "num_windows": len(windows),
        }
        folder = Path(self.config.latents)
        self.latents = LatentCache.open(folder, identity) or LatentCache.write(
            folder, identity, self.frames("train"), windows, encode
        )
        return self.latents

    def train_dataloader(self) -> DataLoader[Sample]:
        dataset = self.dataset("train")
        trainer = self.trainer
        order = BatchOrder(
            size=len(dataset),
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            first_step=trainer.global_step * trainer.accumulate_grad_batches if trainer else 0,
            rank=trainer.global_rank if trainer else 0,
            num_ranks=trainer.world_size if trainer else 1,
        )
        return self._loader(dataset, batch_sampler=order)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader(self.dataset("val"), batch_size=self.config.val_batch_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader(self.dataset("test"), batch_size=self.config.val_batch_size)

    def _loader(
        self,
        dataset: WindowDataset,
        batch_sampler: BatchOrder | None = None,
        batch_size: int = 1,
    ) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            batch_sampler=batch_sampler,
            batch_size=1 if batch_sampler else batch_size,
            num_workers=self.config.num_workers,
            persistent_workers=self.config.num_workers > 0,
            collate_fn=_Collate(self.config.text_tokens),
        )
