"""The decoder-only transformer over video tokens, with grouped-query attention and a cache.

Follows arXiv 2501.03575, section 5.2.2, and the arithmetic of its release, in whose names its
weights load (`openwfm.interop.transformer`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.autoregressive.cache import KeyValueCache
from openwfm.autoregressive.config import TransformerConfig
from openwfm.autoregressive.positions import absolute_rows, rotary_rows
from openwfm.nn.attention import CrossAttention, Keys
from openwfm.nn.derived import Derives
from openwfm.nn.rope import rotate

Rotary = tuple[Tensor, Tensor]


class CausalAttention(nn.Module):
    """``qkv`` stacks queries, keys and values; groups of query heads share a key-value head."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.num_heads, config.num_kv_heads
        size, heads = config.head_dim, config.num_heads + 2 * config.num_kv_heads
        self.qkv = nn.Linear(config.width, heads * size, bias=False)
        self.q_norm = nn.RMSNorm(size, eps=config.norm_epsilon)
        self.k_norm = nn.RMSNorm(size, eps=config.norm_epsilon)
        self.out = nn.Linear(config.num_heads * size, config.width, bias=False)

    def forward(
        self, x: Float[Tensor, "b n d"], rotary: Rotary, cache: KeyValueCache | None, layer: int
    ) -> Float[Tensor, "b n d"]:
        heads = self.qkv(x).unflatten(-1, (self.heads + 2 * self.kv_heads, -1))
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        q, k = rotate(self.q_norm(q), *rotary), rotate(self.k_norm(k), *rotary)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        return self.out(rearrange(self.mix(q, k, v), "b h n d -> b n (h d)"))

    def mix(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b g m d"],
        v: Float[Tensor, "b g m d"],
    ) -> Float[Tensor, "b h n d"]:
        """Causal attention of the last n of m tokens; g key-value heads, shared by groups."""
        if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # The backward pass of torch 2.13's attention on CPUs takes 3.7 times as long in bf16.
            with torch.autocast("cpu", enabled=False):
                return self._mix(q.float(), k.float(), v.float())
        return self._mix(q, k, v)

    def _mix(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b g m d"],
        v: Float[Tensor, "b g m d"],
    ) -> Float[Tensor, "b h n d"]:
        count, total = q.shape[2], k.shape[2]
        if count == 1:
            # The heads of a group are queries to the same keys: nothing is repeated.
            grouped = q.unflatten(1, (self.kv_heads, -1)).squeeze(3)
            return F.scaled_dot_product_attention(grouped, k, v).flatten(1, 2).unsqueeze(2)
        shared = self.heads != self.kv_heads
        if count == total:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
        mask = torch.ones(count, total, dtype=torch.bool, device=q.device).tril(total - count)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=shared)


class GatedMLP(nn.Module):
    """down(silu(gate·x) ⊙ up·x); ``gate_up`` stacks the first two."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Layer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, epsilon = config.width, config.norm_epsilon
        self.attention_norm = nn.RMSNorm(width, eps=epsilon)
        self.attention = CausalAttention(config)
        if config.context_width is not None:
            self.cross_norm = nn.RMSNorm(width, eps=epsilon)
            self.cross_attention = CrossAttention(
                width,
                config.num_heads,
                config.context_width,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                epsilon=epsilon,
            )
        self.mlp_norm = nn.RMSNorm(width, eps=epsilon)
        self.mlp = GatedMLP(width, config.hidden)

    def norms(self) -> list[nn.RMSNorm]:
        """Of attention, of the MLP, and of cross-attention where there is one."""
        cross = getattr(self, "cross_norm", None)
        return [self.attention_norm, self.mlp_norm] + ([] if cross is None else [cross])

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotary: Rotary,
        keys: Keys | None,
        cache: KeyValueCache | None,
        layer: int,
    ) -> Float[Tensor, "b n d"]:
        x = x + self.attention(self.attention_norm(x), rotary, cache, layer)
        if keys is not None:
            x = x + self.cross_attention(self.cross_norm(x), keys)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(Derives):
    """``Transformer(config)(tokens)``: logits of the token after each.

    What decoding derives from the weights (`openwfm.autoregressive.runtime`) it remembers.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.num_embeddings, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.unembed.weight = self.embed.weight
        initialise(self)

    def context_keys(self, context: Float[Tensor, "b n d"], null_tokens: int = 0) -> list[Keys]:
        """Keys and values of every layer's cross-attention: constant, so compute them once.

        ``null_tokens`` more all-zero tokens follow (the release pads text to 512 and masks none).
        Raises ValueError for a network without cross-attention or text of another width.
        """
        width = self.config.context_width
        if width is None or context.shape[-1] != width:
            raise ValueError(
                f"context: width {context.shape[-1]}: must be net.context_width={width}"
            )
        return [layer.cross_attention.keys(context, null_tokens) for layer in self._layers()]

    def forward(
        self,
        tokens: Int[Tensor, "b n"],
        *,
        context: Float[Tensor, "b m d"] | Sequence[Keys] | None = None,
        cache: KeyValueCache | None = None,
        last_only: bool = False,
    ) -> Float[Tensor, "b n v"]:
        """Without a cache: of whole sequences. With one: of the next tokens, which it then holds.

        ``last_only`` computes the logits after the last token alone (n = 1). Raises ValueError for
        token ids, lengths and contexts that the config does not admit.
        """
        return self.logits(self.hidden(tokens, context=context, cache=cache), last_only=last_only)

    def logits(
        self, hidden: Float[Tensor, "b n d"], *, last_only: bool = False
    ) -> Float[Tensor, "b m v"]:
        return self.unembed(hidden[:, -1:] if last_only else hidden)

    def hidden(
        self,
        tokens: Int[Tensor, "b n"],
        *,
        context: Float[Tensor, "b m d"] | Sequence[Keys] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b n d"]:
        """What enters the unembedding, normalised; see :meth:`forward`."""
        start = 0 if cache is None else cache.length
        keys = self.check_step(tokens, context, cache)
        count, device = tokens.shape[1], tokens.device
        cos, sin = rotary_rows(self.config, start, count, device)
        x = self.embed(tokens)
        position = None
        if self.config.absolute_position:
            position = absolute_rows(self.config, start, count, device).to(x.dtype)
        for index, (layer, layer_keys) in enumerate(zip(self.layers, keys, strict=True)):
            x = x if position is None else x + position
            x = layer(x, (cos[None], sin[None]), layer_keys, cache, index)
        if cache is not None:
            cache.advance(count)
        return self.norm(x)

    def check_step(
        self,
        tokens: Int[Tensor, "b n"],
        context: Tensor | Sequence[Keys] | None,
        cache: KeyValueCache | None,
    ) -> Sequence[Keys | None]:
        """The context's keys for every layer. Raises ValueError for what `hidden` cannot take."""
        self._check(tokens, 0 if cache is None else cache.length)
        keys = self._keys(context)
        if cache is not None:
            cache.check_room(*tokens.shape)
        return keys

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def _keys(self, context: Tensor | Sequence[Keys] | None) -> Sequence[Keys | None]:
        if (context is None) != (self.config.context_width is None):
            need = "needs one" if context is None else "takes none"
            raise ValueError(f"context: this network {need} (net.context_width)")
        if context is None:
            return [None] * self.config.num_layers
        return self.context_keys(context) if isinstance(context, Tensor) else context

    def _check(self, tokens: Tensor, start: int) -> None:
        if tokens.ndim != 2 or tokens.is_floating_point() or not tokens.numel():
            raise ValueError(
                f"tokens: shape {tuple(tokens.shape)} of {tokens.dtype}: must be integers (b, n)"
            )
        if start + tokens.shape[1] > self.config.max_tokens:
            raise ValueError(
                f"tokens: {start + tokens.shape[1]}: must be at most {self.config.max_tokens}, "
                f"of net.grid={self.config.grid}"
            )


def check_tokens(tokens: Int[Tensor, "b n"], config: TransformerConfig) -> None:
    """Raises ValueError for an id that has no embedding (this looks at the values: a host sync)."""
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= config.num_embeddings:
        raise ValueError(f"tokens: ids {low} to {high}: must be in 0..{config.num_embeddings - 1}")


@torch.no_grad()
def initialise(network: Transformer) -> None:
    """Embedding N(0, 1); projections truncated normal of 0.02, those that write to the residual
    stream smaller in deeper layers; output truncated at three deviations of width^-0.5."""
    config = network.config
    nn.init.normal_(network.embed.weight)
    if not config.tied:
        deviation = config.width**-0.5
        nn.init.trunc_normal_(network.unembed.weight, 0, deviation, -3 * deviation, 3 * deviation)
    for index, layer in enumerate(network._layers()):
        residual = 0.02 / math.sqrt(2 * (index + 1))
        wide, narrow = [layer.attention.qkv], [layer.attention.out, layer.mlp.down]
        if config.context_width is not None:
            wide += [layer.cross_attention.q, layer.cross_attention.kv]
            narrow.append(layer.cross_attention.out)
        for linear in wide:
            nn.init.trunc_normal_(linear.weight, 0, 0.02)
        for linear in narrow:
            nn.init.trunc_normal_(linear.weight, 0, residual)
        gate, up = layer.mlp.gate_up.weight.chunk(2)
        nn.init.trunc_normal_(gate, 0, 0.02)
        nn.init.trunc_normal_(up, 0, residual)
    if config.tied:
        network.embed.weight.mul_(config.width**-0.5)
