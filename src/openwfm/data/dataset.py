"""Windows of clips as samples, and samples as a VideoBatch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from openwfm.data.batch import VideoBatch
from openwfm.data.buckets import PaddedFrames
from openwfm.data.config import DataConfig
from openwfm.data.latents import Latents, to_video
from openwfm.data.shardset import ShardSet
from openwfm.data.truths import cut_truths, read_truths
from openwfm.data.windows import FrameCache, Size, Window
from openwfm.randomness import numpy_generator

PICTURE: Mapping[str, Any] = {"fps": 1.0, "caption": ""}  # what is known of a still picture


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One window before it is collated."""

    key: str
    fps: float
    caption: str
    video: Float[Tensor, "*v c t h w"] | None
    latents: Float[Tensor, "z f y x"] | Int[Tensor, "f y x"] | None
    text: Float[Tensor, "*v n d"] | None
    padding_mask: Float[Tensor, "1 h w"] | None = None
    truth: Mapping[str, Tensor] = field(default_factory=dict)


class WindowDataset(Dataset[Sample]):
    """Item (index, position): window ``index``, augmented as position ``position`` of the run.

    Windows are of clips, or of ``pictures``, which have no metadata.
    """

    def __init__(
        self,
        config: DataConfig,
        index: ShardSet,
        frames: FrameCache,
        windows: list[Window],
        latents: Latents | None = None,
        pictures: FrameCache | None = None,
    ) -> None:
        self.config, self.index, self.frames = config, index, frames
        self.windows, self.latents, self.pictures = windows, latents, pictures
        self._texts: dict[str, Tensor] = {}
        self._truths: dict[str, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, item: tuple[int, int] | int) -> Sample:
        row, position = item if isinstance(item, tuple) else (item, -1)
        window = self.windows[row]
        frames = self._frames(window.key)
        facts = self.index.metadata(window.key) if frames is self.frames else PICTURE
        video = None
        if self.latents is None:
            video = to_video(frames.read(window), self.config.num_views)
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
            padding_mask=frames.mask(window.key) if isinstance(frames, PaddedFrames) else None,
            truth=self._truth(window),
        )

    def sizes(self) -> list[Size]:
        """Rows and columns of every window."""
        return [self._frames(window.key).size(window.key) for window in self.windows]

    def _frames(self, key: str) -> FrameCache:
        if self.pictures is not None and key in self.pictures.spans:
            return self.pictures
        return self.frames

    def _truth(self, window: Window) -> dict[str, Tensor]:
        """Fields of VideoBatch for ``data.truths``, of the frames of ``window``."""
        if not self.config.truths:
            return {}
        if window.key not in self._truths:
            self._truths[window.key] = read_truths(self.index, window.key, self.config.truths)
        return cut_truths(self._truths[window.key], window)

    def _text(self, key: str) -> Tensor | None:
        if self.config.text == "none":
            return None
        if self._frames(key) is not self.frames:
            return torch.zeros(0, self._text_width)
        if key not in self._texts:
            views, tokens = self.config.views, self.config.text_tokens
            if views:
                parts: list[Tensor | None] = [self._read_text(key, f"{v}.text.npy") for v in views]
                self._texts[key] = _pad(parts, tokens)
            else:
                self._texts[key] = self._read_text(key)
        return self._texts[key]

    @cached_property
    def _text_width(self) -> int:
        """Of the embeddings of some clip; 0 when none has any."""
        keys = (key for key in self.frames.spans if "text.npy" in self.index.members(key))
        return next((self._read_text(key).shape[1] for key in keys), 0)

    def _read_text(self, key: str, member: str = "text.npy") -> Tensor:
        if member not in self.index.members(key):
            if self.config.text == "optional":
                return torch.zeros(0, 0)
            raise ValueError(
                f"clip {key}: has no {member}; curate with a text encoder, or set data.config.text="
                "optional"
            )
        data = np.load(io.BytesIO(self.index.read(key, member)), allow_pickle=False)
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
        padding_mask=_stack([s.padding_mask for s in samples])
        if first.padding_mask is not None
        else None,
        **{name: _stack([s.truth[name] for s in samples]) for name in first.truth},
    )


def _latents(items: list[Tensor | None]) -> dict[str, Tensor]:
    """As the field of VideoBatch that they belong to."""
    if items[0] is None:
        return {}
    return {"latents" if items[0].is_floating_point() else "tokens": _stack(items)}


def _stack(items: list[Tensor | None]) -> Tensor:
    present = [item for item in items if item is not None]
    shapes = sorted({tuple(item.shape) for item in present})
    if len(shapes) > 1:
        raise ValueError(f"batch: shapes {shapes}: must be equal; take its clips from one bucket")
    return torch.stack(present)


def _pad(texts: list[Tensor | None], length: int) -> Tensor:
    present = [text for text in texts if text is not None]
    if present[0].ndim == 3:  # of several views, padded already
        return _stack(texts)
    width = max(text.shape[1] for text in present)
    out = torch.zeros(len(present), length, width)
    for row, text in zip(out, present, strict=True):
        count = min(length, len(text))
        if count:
            row[:count] = text[:count]
    return out


class Collate:
    def __init__(self, text_tokens: int) -> None:
        self.text_tokens = text_tokens

    def __call__(self, samples: list[Sample]) -> VideoBatch:
        return collate(samples, self.text_tokens)
