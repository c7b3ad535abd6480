"""VideoBatch: the one typed thing that travels from data to modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VideoBatch:
    """A batch of clips. Fields that a data set does not have are None.

    ``video`` is float in [-1, 1]; ``text`` holds token embeddings, zero beyond a prompt's length
    and never masked (arXiv 2501.03575 code: padding tokens are a null sink); ``latents`` are raw
    tokenizer latents, not yet normalised, of a cache written beforehand, and ``tokens`` the indices
    of a discrete tokenizer.
    """

    key: tuple[str, ...]
    fps: Float[Tensor, " b"]
    video: Float[Tensor, "b c t h w"] | Float[Tensor, "b v c t h w"] | None = None
    latents: Float[Tensor, "b z f y x"] | None = None  # views one after the other along f
    tokens: Int[Tensor, "b f y x"] | None = None
    text: Float[Tensor, "b n d"] | Float[Tensor, "b v n d"] | None = None
    caption: tuple[str, ...] | None = None
    padding_mask: Float[Tensor, "b 1 h w"] | None = None
    intrinsics: Float[Tensor, "b t 3 3"] | None = None
    camera_to_world: Float[Tensor, "b t 4 4"] | None = None
    action: Float[Tensor, "b s a"] | None = None
    trajectory: Float[Tensor, "b 64 3"] | None = None

    def __post_init__(self) -> None:
        size = len(self.key)
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and len(value) != size:
                raise ValueError(f"batch.{field.name}: {len(value)} items, but {size} keys")

    def __len__(self) -> int:
        return len(self.key)

    def _map(self, change: Callable[[Tensor], Tensor]) -> VideoBatch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {n: change(v) for n, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> VideoBatch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> VideoBatch:
        return self._map(lambda tensor: tensor.pin_memory())
