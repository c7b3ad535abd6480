"""Decoding with a transformer's weights as they are needed for a few tokens at a time.

The module stays what it is, and what prompts go through: a decoder shares its weights, its cache
and its arithmetic, and leaves out what a single token does not need. ``decoder_for`` picks one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from openwfm.autoregressive.cache import KeyValueCache
from openwfm.autoregressive.config import TransformerConfig
from openwfm.autoregressive.positions import absolute_rows, rotary_rows
from openwfm.autoregressive.quantized import (
    PRECISIONS,
    Precision,
    by_panels,
    pack,
    panels,
    product,
)
from openwfm.autoregressive.transformer import Layer, Transformer
from openwfm.nn.attention import Keys

# More tokens than this (all sequences together) are a prompt: the module takes them.
MOST_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """``precision`` of the matrices: bf16 and int8 are faster and change the model a little.

    ``native`` asks for the compiled loop (`openwfm.autoregressive.native`); it is off by default
    because it runs a C++ compiler once, and torch decodes where there is none. ``keep`` latent
    frames are carried over when a video is longer than the network's window; None is as many as
    training gives at most.
    """

    precision: Precision = "fp32"
    native: bool = False
    keep: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"decoding.precision={self.precision}: must be one of {', '.join(PRECISIONS)}"
            )
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"decoding.keep={self.keep}: must be at least 1, or null")


class Decoder(Protocol):
    """What `Transformer` offers for decoding, and every faster form of it."""

    config: TransformerConfig

    def hidden(
        self,
        tokens: Int[Tensor, "b n"],
        *,
        context: Sequence[Keys] | None = None,
        cache: KeyValueCache,
    ) -> Float[Tensor, "b n d"]:
        """Normalised states after the next tokens, which the cache then holds."""
        ...

    def logits(
        self, hidden: Float[Tensor, "b n d"], *, last_only: bool = False
    ) -> Float[Tensor, "b m v"]: ...


def decoder_for(network: Transformer, config: DecodingConfig | None = None) -> Decoder:
    """The fastest decoder for where the network is: the module itself off the CPU or below fp32.

    Raises ValueError where ``precision`` asks for what only the CPU has.
    """
    config = config or DecodingConfig()
    weight = network.embed.weight
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not plain or torch.is_autocast_enabled("cpu"):
        if config.precision != "fp32":
            raise ValueError(
                f"decoding.precision={config.precision}: needs a network in fp32 on the CPU, not "
                f"{weight.dtype} on {weight.device}"
            )
        return network
    if config.native:
        from openwfm.autoregressive.native.decoder import NativeDecoder
        from openwfm.autoregressive.native.library import library

        found = library()
        if found is not None:
            return NativeDecoder(network, config.precision, found)
    return TorchDecoder(network, config.precision)


class Rows:
    """Rotary and absolute rows of the positions around the last ones asked for."""

    BLOCK = 512

    def __init__(self, config: TransformerConfig) -> None:
        self.config, self.start, self.end = config, 0, 0
        self.cos = self.sin = torch.empty(0)
        self.absolute: Tensor | None = None

    def at(self, start: int, count: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cosines and signed sines ``n d``, and what the config adds before layers, or None."""
        if not (self.start <= start and start + count <= self.end):
            block = min(max(count, self.BLOCK), self.config.max_tokens - start)
            self.start, self.end = start, start + block
            self.cos, self.sin = rotary_rows(self.config, start, block)
            if self.config.absolute_position:
                self.absolute = absolute_rows(self.config, start, block)
        here = slice(start - self.start, start - self.start + count)
        absolute = None if self.absolute is None else self.absolute[here]
        return self.cos[here], self.sin[here], absolute


class Matrix:
    """A weight as decoding reads it. Other forms than its own belong to the network
    (`Derives.derived`), which makes them anew when it changes."""

    def __init__(
        self, network: Transformer, name: str, weight: Tensor, precision: Precision
    ) -> None:
        self.network, self.name, self.weight = network, name, weight
        self.rows, self.panels = weight.shape[0], cast("Tensor | None", None)
        self.data, self.scale = packed(network, name, weight, precision)
        self.single = precision == "fp32"

    def __call__(self, x: Float[Tensor, "n k"]) -> Float[Tensor, "n m"]:
        if not self.single:
            return product(x, self.data, self.scale)
        if len(x) == 1:
            return torch.mv(self.data, x[0])[None]
        if self.panels is None:
            (self.panels,) = self.network.derived(
                f"panels/{self.name}", lambda weight: (panels(weight),), self.weight
            )
        return by_panels(x, self.panels, self.rows)


def packed(
    network: Transformer, name: str, weight: Tensor, precision: Precision
) -> tuple[Tensor, Tensor | None]:
    """`pack`, remembered by the network."""
    if precision == "fp32":
        return weight.detach(), None
    derive = cast("partial[tuple[Tensor, ...]]", partial(pack, precision=precision))
    data, scale = network.derived(f"{precision}/{name}", derive, weight)
    return data, scale


def root_norm(x: Float[Tensor, "... d"], gain: Float[Tensor, " d"], floor: Tensor) -> Tensor:
    """RMS norm in four calls: ``gain`` holds √d times the weight, ``floor`` is √(d·epsilon)."""
    return x * gain / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)


class TorchDecoder:
    """Plain torch. A token costs the reading of the weights and some seventeen calls a layer."""

    def __init__(self, network: Transformer, precision: Precision = "fp32") -> None:
        self.network, self.config = network, network.config
        self.rows = Rows(network.config)
        layers = [layer for layer in network.layers if isinstance(layer, Layer)]
        matrix = partial(Matrix, network, precision=precision)
        self.layers = [
            (
                layer,
                matrix(f"{i}/qkv", layer.attention.qkv.weight),
                matrix(f"{i}/out", layer.attention.out.weight),
                matrix(f"{i}/gate_up", layer.mlp.gate_up.weight),
                matrix(f"{i}/down", layer.mlp.down.weight),
            )
            for i, layer in enumerate(layers)
        ]
        self.unembed = matrix("unembed", network.unembed.weight)
        # rotate(g ⊙ x) = x ⊙ (g cos) + roll(x) ⊙ (roll(g) sin): norms of heads cost nothing.
        config, half = network.config, network.config.head_dim // 2
        self.gains = torch.stack(
            [
                torch.cat(
                    (
                        layer.attention.q_norm.weight.detach().expand(config.num_heads, -1),
                        layer.attention.k_norm.weight.detach().expand(config.num_kv_heads, -1),
                    )
                )
                for layer in layers
            ]
        )[:, None]
        self.rolled = self.gains.roll(half, -1)
        root = config.width**0.5
        self.norm_gains = [
            [root * norm.weight.detach() for norm in layer.norms()] for layer in layers
        ]
        self.last_gain = root * network.norm.weight.detach()
        self.head_gain = torch.tensor(config.head_dim**0.5)
        self.floor = torch.tensor((config.width * config.norm_epsilon) ** 0.5)
        self.head_floor = torch.tensor((config.head_dim * config.norm_epsilon) ** 0.5)

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
        heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
        width, half, floor = config.width, config.head_dim // 2, self.floor
        cos, sin, absolute = self.rows.at(cache.length, count)
        # layers n h d
        cosines, sines = self.gains * cos[:, None], self.rolled * sin[:, None]
        added = None if absolute is None else absolute.repeat(batch, 1)
        x = network.embed(tokens).view(-1, width)
        for index, (layer, qkv, out, gate_up, down) in enumerate(self.layers):
            gains = self.norm_gains[index]
            if added is not None:
                x = x + added
            attention = layer.attention
            y = root_norm(x, gains[0], floor)
            states = qkv(y).view(batch, count, heads + 2 * kv_heads, size)
            normed = root_norm(states[:, :, : heads + kv_heads], self.head_gain, self.head_floor)
            turned = torch.addcmul(normed * cosines[index], normed.roll(half, -1), sines[index])
            k, v = cache.extend(
                index,
                turned[:, :, heads:].transpose(1, 2),
                states[:, :, heads + kv_heads :].transpose(1, 2),
            )
            mixed = attention.mix(turned[:, :, :heads].transpose(1, 2), k, v)
            x = x + out(mixed.transpose(1, 2).reshape(-1, heads * size))
            layer_keys = keys[index]
            if layer_keys is not None:
                y = root_norm(x, gains[2], floor)
                y = layer.cross_attention(y.view(batch, count, width), layer_keys)
                x = x + y.reshape(-1, width)
            y = root_norm(x, gains[1], floor)
            gate, up = gate_up(y).chunk(2, dim=-1)
            x = x + down(F.silu(gate) * up)
        cache.advance(count)
        return root_norm(x, self.last_gain, floor).view(batch, count, width)

    def logits(
        self, hidden: Float[Tensor, "b n d"], *, last_only: bool = False
    ) -> Float[Tensor, "b m v"]:
        hidden = hidden[:, -1:] if last_only else hidden
        if hidden.shape[0] * hidden.shape[1] > MOST_TOKENS:
            return self.network.logits(hidden)
        return self.unembed(hidden.flatten(0, 1)).view(*hidden.shape[:2], -1)
