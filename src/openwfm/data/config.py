"""What a data module reads, and how it cuts clips into windows."""

from __future__ import annotations

from dataclasses import dataclass

TEXT_MODES = ("none", "optional", "required")
TRUTHS = ("camera", "action", "trajectory")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Windows of ``num_frames`` frames from curated shards.

    ``split`` are the fractions of *source videos* in train, val and test; ``window_stride`` counts
    frames; ``flip`` is a probability; ``latents`` names the folder of a latent cache. ``shards`` is
    a folder, or several whose clips are used together. ``truths`` are what else a batch carries,
    of `TRUTHS`; every clip must have it.

    Of the training steps a share of ``image_ratio`` is of ``image_batch_size`` single frames, from
    the clips and, if ``images`` is a folder of pictures, from it too (with text they have none).

    ``buckets`` are sizes (rows, columns): a clip is scaled into that of the nearest aspect ratio,
    filled up by reflection, and a padding mask says where. Without them clips keep their sizes.

    ``views`` are the cameras of clips with several, in the order that batches have them; each has
    its own text then.
    """

    shards: str | tuple[str, ...]
    seed: int = 0
    batch_size: int = 8
    val_batch_size: int = 8
    num_frames: int = 17
    window_stride: int = 1
    flip: float = 0.0
    text: str = "none"
    text_tokens: int = 32
    kinds: tuple[str, ...] = ("simulated", "natural")
    split: tuple[float, ...] = (0.8, 0.1, 0.1)
    latents: str | None = None
    num_workers: int = 0
    truths: tuple[str, ...] = ()
    image_ratio: float = 0.0
    image_batch_size: int = 32
    images: str | None = None
    buckets: tuple[tuple[int, int], ...] = ()
    views: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.shards, str):
            object.__setattr__(self, "shards", tuple(self.shards))
        folders = self.folders
        if not folders or not all(folders) or len(set(folders)) < len(folders):
            raise ValueError(f"data.shards={self.shards}: must be one or more different folders")
        object.__setattr__(self, "kinds", tuple(self.kinds))
        object.__setattr__(self, "truths", tuple(self.truths))
        if not set(self.truths) <= set(TRUTHS):
            raise ValueError(f"data.truths={self.truths}: must be some of {', '.join(TRUTHS)}")
        if self.truths and (self.flip or self.image_ratio or self.num_frames < 2):
            raise ValueError(
                f"data.truths={self.truths}: needs clips of 2 frames or more, data.flip=0 and "
                "data.image_ratio=0"
            )
        object.__setattr__(self, "split", tuple(float(part) for part in self.split))
        counts = ("num_frames", "window_stride", "text_tokens", "image_batch_size")
        for name in ("batch_size", "val_batch_size", *counts):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name}={getattr(self, name)}: must be at least 1")
        if self.num_workers < 0:
            raise ValueError(f"data.num_workers={self.num_workers}: must not be negative")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"data.flip={self.flip}: must be a probability in [0, 1]")
        if self.text not in TEXT_MODES:
            raise ValueError(f"data.text={self.text}: must be one of {', '.join(TEXT_MODES)}")
        if len(self.split) != 3 or min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(
                f"data.split={self.split}: must be three fractions (train, val, test) that sum to 1"
            )
        self._check_images()
        self._check_buckets()
        self._check_views()
        if self.latents is not None and self.flip:
            raise ValueError(
                f"data.flip={self.flip}: must be 0 with a latent cache (latents are not mirrored)"
            )

    def _check_images(self) -> None:
        if not 0 <= self.image_ratio < 1:
            raise ValueError(f"data.image_ratio={self.image_ratio}: must be a share in [0, 1)")
        if self.images is not None and not self.image_ratio:
            raise ValueError(f"data.images={self.images}: needs data.image_ratio above 0")
        if self.images is not None and self.text == "required":
            raise ValueError(
                f"data.text={self.text}: must be none or optional with data.images (no captions)"
            )

    def _check_buckets(self) -> None:
        buckets = tuple(tuple(bucket) for bucket in self.buckets)
        object.__setattr__(self, "buckets", buckets)
        whole = all(len(b) == 2 and all(type(n) is int and n > 0 for n in b) for b in buckets)
        if not whole or len(set(buckets)) < len(buckets):
            raise ValueError(
                f"data.buckets={self.buckets}: must be different pairs of whole numbers "
                "(rows, columns)"
            )

    def _check_views(self) -> None:
        views = tuple(str(view) for view in self.views)
        object.__setattr__(self, "views", views)
        if len(set(views)) < len(views) or len(views) == 1 or not all(views):
            raise ValueError(f"data.views={views}: must be none, or two or more different names")
        if views and (self.buckets or self.image_ratio or self.flip):
            raise ValueError(
                f"data.views={views}: needs data.buckets=[], data.image_ratio=0 and data.flip=0"
            )

    @property
    def num_views(self) -> int:
        return max(1, len(self.views))

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.shards,) if isinstance(self.shards, str) else self.shards
