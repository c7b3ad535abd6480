"""ShardDataModule: windows of curated clips as VideoBatch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import lightning
from torch.utils.data import DataLoader

from openwfm.data.buckets import PaddedFrames
from openwfm.data.config import DataConfig
from openwfm.data.dataset import Collate, Sample, WindowDataset
from openwfm.data.images import open_pictures
from openwfm.data.joined import JoinedLatents
from openwfm.data.latent_shards import LatentShards
from openwfm.data.latents import Encode, LatentCache, Latents
from openwfm.data.order import BatchOrder, JointOrder, equal_batches, split_sources
from openwfm.data.shards import ShardIndex
from openwfm.data.shardset import ShardSet
from openwfm.data.windows import FrameCache, Size, Window, cut_windows
from openwfm.files import sha256_file


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
        """What published weights say of the data they were trained on.

        ``size`` is the most frequent one, ``sizes`` are all of several, ``image_ratio`` is there
        when some steps were of images, ``views`` when clips have several (of ``size`` each).
        """
        frames, index = self.frames("train"), self._open()
        rows, columns = next(iter(frames.sizes))
        rates = sorted({float(index.metadata(key)["fps"]) for key in frames.lengths})
        several = {"sizes": [list(size) for size in frames.sizes]} if len(frames.sizes) > 1 else {}
        images = {"image_ratio": self.config.image_ratio} if self.config.image_ratio else {}
        views = {"views": list(self.config.views)} if self.config.views else {}
        return {
            **views,
            **several,
            **images,
            "num_frames": self.config.num_frames,
            "size": [rows // self.config.num_views, columns],
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
            views = self.config.views
            named = " ".join([index.manifest_sha256, *keys, *views])
            name = hashlib.sha256(named.encode()).hexdigest()
            folder = index.root / ".cache" / f"{split}-{name[:12]}"
            self._caches[split] = self._in_buckets(FrameCache.open(folder, index, keys, views))
        return self._caches[split]

    def _in_buckets(self, frames: FrameCache) -> FrameCache:
        buckets = self.config.buckets
        return PaddedFrames(frames, buckets) if buckets else frames

    def windows(self, split: str) -> list[Window]:
        """Windows of clips, bucket by bucket; for training they overlap."""
        config = self.config
        stride = config.window_stride if split == "train" else config.num_frames
        windows = self._cut(self.frames(split), config.num_frames, stride)
        if not windows:
            raise ValueError(
                f"data.num_frames={config.num_frames}: longer than every clip of split {split}"
            )
        return windows

    def images(self) -> list[Window]:
        """Training windows of one frame, bucket by bucket: of clips and of pictures."""
        if not self.config.image_ratio:
            return []
        frames, pictures = self.frames("train"), self.pictures()
        windows = self._cut(frames, 1, self.config.window_stride)
        if pictures is None:
            return windows
        windows += self._cut(pictures, 1, 1)

        def place(window: Window) -> tuple[Size, bool, str, int]:
            still = window.key in pictures.spans
            return (pictures if still else frames).size(window.key), still, window.key, window.start

        return sorted(windows, key=place)

    @staticmethod
    def _cut(frames: FrameCache, num_frames: int, stride: int) -> list[Window]:
        windows = cut_windows(frames.lengths, num_frames, stride)
        return sorted(windows, key=lambda window: (frames.size(window.key), window.key))

    def pictures(self) -> FrameCache | None:
        """``data.images``, cropped to the buckets or the sizes of the training clips."""
        if self.config.images is None:
            return None
        sizes = self.config.buckets or tuple(self.frames("train").sizes)
        return self._in_buckets(open_pictures(Path(self.config.images), sizes))

    def dataset(self, split: str) -> WindowDataset:
        """Windows of a split; those for training are followed by images."""
        config, index, frames = self.config, self._open(), self.frames(split)
        windows = self.windows(split)
        if split != "train" or self.latents is None:
            assert frames.frames  # decoded here and not in every worker
        if split != "train":
            return WindowDataset(replace(config, flip=0.0), index, frames, windows)
        windows += self.images()
        return WindowDataset(config, index, frames, windows, self.latents, self.pictures())

    def prepare_latents(self, encode: Encode, tokenizer_sha256: str) -> Latents:
        """Open the training split's latents, writing them with ``encode`` on first use.

        A folder of `openwfm tokenize shards` is read as it is. Raises ValueError when it is of
        other clips or another tokenizer, or holds no latents of some window.
        """
        assert self.config.latents is not None
        if LatentShards.is_one(self.config.latents):
            self.latents = self._stored(tokenizer_sha256)
            return self.latents
        frames, pictures = self.frames("train"), self.pictures()
        owners = {"": frames, "images": frames, "pictures": pictures}

        def cached(windows: list[Window], kind: str) -> list[Latents]:
            def place(window: Window) -> tuple[str, Size]:
                name = "pictures" if pictures and window.key in pictures.spans else kind
                owner = owners[name]
                assert owner is not None
                return name, owner.size(window.key)

            parts = [(name, list(part)) for (name, _), part in groupby(windows, place)]
            return [
                self._cached(name, cast(FrameCache, owners[name]), part, encode, tokenizer_sha256)
                for name, part in parts
            ]

        clips, images = cached(self.windows("train"), ""), cached(self.images(), "images")
        self.latents = clips[0] if len(clips) == 1 and not images else JoinedLatents(clips, images)
        return self.latents

    def _stored(self, tokenizer_sha256: str) -> Latents:
        config = self.config
        stored = LatentShards.open(str(config.latents))
        stored.require(self.manifest_sha256, tokenizer_sha256)
        if config.buckets or config.images or config.views:
            key = "buckets" if config.buckets else "images" if config.images else "views"
            raise ValueError(
                f"data.latents={config.latents}: latents of clips as they are: must be another "
                f"folder, of a cache, with data.{key}"
            )
        clips, images = stored.rows(self.windows("train")), self.images()
        return JoinedLatents([clips], [stored.rows(images)]) if images else clips

    def _cached(
        self,
        kind: str,
        frames: FrameCache,
        windows: list[Window],
        encode: Encode,
        tokenizer_sha256: str,
    ) -> LatentCache:
        """The latents of windows of one kind and size, in a folder of their own."""
        config = self.config
        identity: dict[str, Any] = {
            "manifest": self.manifest_sha256,
            "tokenizer": tokenizer_sha256,
            "seed": config.seed,
            "kinds": list(config.kinds),
            "split": list(config.split),
            "num_frames": windows[0].num_frames,
            "window_stride": config.window_stride,
            "num_windows": len(windows),
        }
        if config.views:
            identity["views"] = list(config.views)
        if config.buckets:
            identity["buckets"] = [list(bucket) for bucket in config.buckets]
        if kind == "pictures":
            identity["pictures"] = sha256_file(Path(str(config.images)) / ".cache" / "clips.json")
        folder = Path(str(config.latents)) / kind
        if len(frames.sizes) > 1:
            rows, columns = frames.size(windows[0].key)
            folder = folder / f"{rows}x{columns}"
        return LatentCache.open(folder, identity) or LatentCache.write(
            folder, identity, frames, windows, encode, num_views=config.num_views
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        config, trainer = self.config, self.trainer
        dataset = self.dataset("train")
        num_clips, sizes = len(self.windows("train")), dataset.sizes()

        def order(batch_size: int, part: list[Size]) -> BatchOrder:
            return BatchOrder(
                size=[len(list(bucket)) for _, bucket in groupby(part)],
                batch_size=batch_size,
                seed=config.seed,
                first_step=first,
                rank=trainer.global_rank if trainer else 0,
                num_ranks=trainer.world_size if trainer else 1,
            )

        first = trainer.global_step * trainer.accumulate_grad_batches if trainer else 0
        clips = order(config.batch_size, sizes[:num_clips])
        if not config.image_ratio:
            return self._loader(dataset, clips)
        images = order(config.image_batch_size, sizes[num_clips:])
        joint = JointOrder(clips, images, ratio=config.image_ratio, first_step=first)
        return self._loader(dataset, joint)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._held_out("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._held_out("test")

    def _held_out(self, split: str) -> DataLoader[Sample]:
        dataset = self.dataset(split)
        return self._loader(dataset, equal_batches(dataset.sizes(), self.config.val_batch_size))

    def _loader(self, dataset: WindowDataset, batches: Iterable[list[Any]]) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self.config.num_workers,
            persistent_workers=self.config.num_workers > 0,
            collate_fn=Collate(self.config.text_tokens),
        )
