"""Keys and values of the tokens so far, in tensors that are allocated once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.autoregressive.config import TransformerConfig


class KeyValueCache:
    """Room for ``capacity`` tokens of ``batch`` sequences; ``length`` of them are there.

    Keys are stored rotated. `rewind` forgets the last tokens (speculative decoding), without
    touching memory.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        batch: int = 1,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.capacity = config.max_tokens if capacity is None else capacity
        if batch < 1 or self.capacity < 1:
            raise ValueError(f"cache: batch={batch}, capacity={capacity}: must be at least 1")
        shape = (config.num_layers, batch, config.num_kv_heads, self.capacity, config.head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self._layers = list(zip(self.keys.unbind(), self.values.unbind(), strict=True))
        self.length = 0

    @property
    def batch(self) -> int:
        return self.keys.shape[1]

    def check_room(self, batch: int, count: int) -> None:
        if batch != self.batch:
            raise ValueError(f"cache: {batch} sequences: it was made for {self.batch}")
        if self.length + count > self.capacity:
            raise ValueError(
                f"cache: {self.length} + {count} tokens: must be at most {self.capacity}"
            )

    def extend(
        self, layer: int, keys: Float[Tensor, "b h n d"], values: Float[Tensor, "b h n d"]
    ) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        """Write behind the ``length`` tokens; returns views of all of them. `advance` ends a
        step, after the last layer."""
        count = keys.shape[2]
        end = self.length + count
        all_keys, all_values = self._layers[layer]
        # `narrow` costs a third of slicing by index, and there are four of them a layer.
        all_keys.narrow(2, self.length, count).copy_(keys)
        all_values.narrow(2, self.length, count).copy_(values)
        return all_keys.narrow(2, 0, end), all_values.narrow(2, 0, end)

    def advance(self, count: int) -> None:
        self.length += count

    def rewind(self, length: int) -> None:
        """Keep the first ``length`` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cache: rewind to {length}: must be in 0..{self.length}")
        self.length = length
