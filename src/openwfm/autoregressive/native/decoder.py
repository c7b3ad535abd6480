"""Decoding with the compiled loop: a call a token."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.autoregressive.cache import KeyValueCache
from openwfm.autoregressive.native.library import KINDS, SLOTS, Pass
from openwfm.autoregressive.quantized import Precision
from openwfm.autoregressive.runtime import MOST_TOKENS, Rows, packed
from openwfm.autoregressive.transformer import Layer, Transformer
from openwfm.nn.attention import Keys


class NativeDecoder:
    """As `TorchDecoder`, in one call a pass. fp32 weights are read where the module has them.

    Results do not depend on the number of threads, which is torch's.
    """

    def __init__(self, network: Transformer, precision: Precision, library: ctypes.CDLL) -> None:
        self.network, self.config, self.library = network, network.config, library
        self.kind, self.rows = KINDS[precision], Rows(network.config)
        # What the pointers point to lives as long as the decoder.
        self._held: list[Tensor] = []
        pointers: list[int] = []
        for index, layer in enumerate(network.layers):
            assert isinstance(layer, Layer)
            slots = self._slots(layer, index, precision)
            pointers += [slots.get(name, 0) for name in SLOTS]
        self._weights = torch.tensor(pointers, dtype=torch.int64)
        self._norm = self._pointer(network.norm.weight)
        self._unembed = self._matrix("unembed", network.unembed.weight, precision)
        self._context: tuple[Sequence[Keys], list[Tensor], Tensor] | None = None

    def _pointer(self, tensor: Tensor) -> int:
        tensor = tensor.detach().contiguous()
        self._held.append(tensor)
        return tensor.data_ptr()

    def _matrix(self, name: str, weight: Tensor, precision: Precision) -> tuple[int, int]:
        data, scale = packed(self.network, name, weight, precision)
        return self._pointer(data), 0 if scale is None else self._pointer(scale)

    def _slots(self, layer: Layer, index: int, precision: Precision) -> dict[str, int]:
        norms = {
            "attention_norm": layer.attention_norm.weight,
            "q_norm": layer.attention.q_norm.weight,
            "k_norm": layer.attention.k_norm.weight,
            "mlp_norm": layer.mlp_norm.weight,
        }
        matrices = {
            "qkv": layer.attention.qkv.weight,
            "out": layer.attention.out.weight,
            "gate_up": layer.mlp.gate_up.weight,
            "down": layer.mlp.down.weight,
        }
        if self.config.context_width is not None:
            cross = layer.cross_attention
            norms |= {"cross_norm": layer.cross_norm.weight, "cross_q_norm": cross.q_norm.weight}
            matrices |= {"cross_q": cross.q.weight, "cross_out": cross.out.weight}
        found = {name: self._pointer(weight) for name, weight in norms.items()}
        for name, weight in matrices.items():
            found[name], found[f"{name}_scale"] = self._matrix(f"{index}/{name}", weight, precision)
        return found

    def hidden(
        self,
        tokens: Int[Tensor, "b n"],
        *,
        context: Sequence[Keys] | None = None,
        cache: KeyValueCache,
    ) -> Float[Tensor, "b n d"]:
        network, config = self.network, self.config
        if tokens.numel() > MOST_TOKENS or cache.keys.dtype != torch.float32:
            return network.hidden(tokens, context=context, cache=cache)
        keys = network.check_step(tokens, context, cache)
        batch, count = tokens.shape
        cos, sin, absolute = self.rows.at(cache.length, count)
        x = network.embed(tokens).contiguous()
        memory, context_tokens, context_batch = self._memory(keys, batch)
        self.library.openwfm_hidden(
            Pass(
                kind=self.kind,
                width=config.width,
                layers=config.num_layers,
                heads=config.num_heads,
                kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                hidden=config.hidden,
                batch=batch,
                count=count,
                start=cache.length,
                capacity=cache.capacity,
                context=context_tokens,
                context_batch=context_batch,
                threads=torch.get_num_threads(),
                epsilon=config.norm_epsilon,
                weights=self._weights.data_ptr(),
                norm=self._norm,
                cosines=cos.data_ptr(),
                sines=sin.data_ptr(),
                absolute=0 if absolute is None else absolute.data_ptr(),
                keys=cache.keys.data_ptr(),
                values=cache.values.data_ptr(),
                memory=memory,
                x=x.data_ptr(),
            )
        )
        cache.advance(count)
        return x

    def _memory(self, keys: Sequence[Keys | None], batch: int) -> tuple[int, int, int]:
        """Address of the context's keys, values and biases; their tokens and sequences."""
        given = [layer for layer in keys if layer is not None]
        if not given:
            return 0, 0, 0
        held = self._context
        same = held is not None and [*map(id, held[0])] == [*map(id, given)]
        if held is None or not same:
            tensors, pointers = [], []
            for layer_keys in given:
                for part in layer_keys:
                    if part is None:
                        pointers.append(0)
                        continue
                    tensors.append(part.float().contiguous())
                    pointers.append(tensors[-1].data_ptr())
            held = self._context = (given, tensors, torch.tensor(pointers, dtype=torch.int64))
        first = given[0][0]
        assert len(given) == self.config.num_layers
        if first.shape[0] not in (1, batch):
            raise ValueError(f"context: {first.shape[0]} sequences: must be {batch}, or 1")
        return held[2].data_ptr(), first.shape[2], first.shape[0]

    def logits(
        self, hidden: Float[Tensor, "b n d"], *, last_only: bool = False
    ) -> Float[Tensor, "b m v"]:
        hidden = (hidden[:, -1:] if last_only else hidden).contiguous()
        tokens = hidden.shape[0] * hidden.shape[1]
        if tokens > MOST_TOKENS:
            return self.network.logits(hidden)
        found = torch.empty(*hidden.shape[:2], self.config.vocabulary)
        self.library.openwfm_multiply(
            self.kind,
            *self._unembed,
            self.config.vocabulary,
            self.config.width,
            hidden.data_ptr(),
            tokens,
            found.data_ptr(),
            torch.get_num_threads(),
        )
        return found
