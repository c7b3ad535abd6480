"""transformers' networks of the same shape and weights, decoding in a plain loop of theirs.

With ``net.grid`` (n, 1, 1) only time turns the heads, so that a Qwen3 (a Llama with normalised
queries and keys) with our time frequencies is the same network: its tokens must be ours. A Llama
has no such norms; it does less and only its time is of interest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from openwfm.autoregressive import Transformer
from openwfm.autoregressive.generate import stream_tokens
from openwfm.autoregressive.positions import frequencies
from openwfm.autoregressive.runtime import DecodingConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.extras import require
from openwfm.nn.rope import axis_dims

# Greedy tokens after a prompt, and the seconds of all but the first.
Run = Callable[[Tensor, int], tuple[Tensor, float]]


def twin(network: Transformer, family: str) -> Any:
    """A ``Llama`` or ``Qwen3`` with the weights of ``network`` (no context, no absolute
    positions)."""
    config, transformers = network.config, require("transformers", extra="curation")
    assert config.grid[1:] == (1, 1) and config.context_width is None and not config.bov
    settings = getattr(transformers, f"{family}Config")(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.hidden,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_tokens,
        rms_norm_eps=config.norm_epsilon,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = getattr(transformers, f"{family}ForCausalLM")(settings).eval().requires_grad_(False)
    state = renamed(network)
    if family == "Llama":
        state = {key: value for key, value in state.items() if "self_attn.q_norm" not in key}
        state = {key: value for key, value in state.items() if "self_attn.k_norm" not in key}
    model.load_state_dict(state, strict=True)
    time_dim = axis_dims(config.head_dim)[0]
    turning = frequencies(time_dim, config.rope_theta, config.yarn)
    model.model.rotary_emb.inv_freq.zero_()[: time_dim // 2] = turning
    return model


def renamed(network: Transformer) -> dict[str, Tensor]:
    """Our weights under transformers' names."""
    config = network.config
    found: dict[str, Tensor] = {}
    size = config.head_dim
    parts = [config.num_heads * size, config.num_kv_heads * size, config.num_kv_heads * size]
    ours = network.state_dict()
    for index in range(config.num_layers):
        mine, theirs = f"layers.{index}.", f"model.layers.{index}."
        q, k, v = ours[f"{mine}attention.qkv.weight"].split(parts)
        gate, up = ours[f"{mine}mlp.gate_up.weight"].chunk(2)
        found |= {
            f"{theirs}self_attn.q_proj.weight": q,
            f"{theirs}self_attn.k_proj.weight": k,
            f"{theirs}self_attn.v_proj.weight": v,
            f"{theirs}self_attn.o_proj.weight": ours[f"{mine}attention.out.weight"],
            f"{theirs}self_attn.q_norm.weight": ours[f"{mine}attention.q_norm.weight"],
            f"{theirs}self_attn.k_norm.weight": ours[f"{mine}attention.k_norm.weight"],
            f"{theirs}mlp.gate_proj.weight": gate,
            f"{theirs}mlp.up_proj.weight": up,
            f"{theirs}mlp.down_proj.weight": ours[f"{mine}mlp.down.weight"],
            f"{theirs}input_layernorm.weight": ours[f"{mine}attention_norm.weight"],
            f"{theirs}post_attention_layernorm.weight": ours[f"{mine}mlp_norm.weight"],
        }
    return found | {
        "model.embed_tokens.weight": ours["embed.weight"],
        "model.norm.weight": ours["norm.weight"],
        "lm_head.weight": ours["unembed.weight"],
    }


def theirs(model: Any, cache: str) -> Run:
    """Greedy decoding with a ``dynamic`` or ``static`` cache, as lean as their forward allows."""
    transformers = require("transformers", extra="curation")

    @torch.inference_mode()
    def run(prompt: Int[Tensor, "b n"], count: int) -> tuple[Tensor, float]:
        if cache == "static":
            total = prompt.shape[1] + count
            past = transformers.StaticCache(config=model.config, max_cache_len=total)
        else:
            past = transformers.DynamicCache(config=model.config)
        step, found, start = prompt, [], 0.0
        for index in range(count):
            if index == 1:
                start = time.perf_counter()
            out = model(input_ids=step, past_key_values=past, use_cache=True, logits_to_keep=1)
            step = out.logits[:, -1:].argmax(-1)
            found.append(step)
        return torch.cat(found, 1), time.perf_counter() - start

    return run


def ours(network: Transformer, decoding: DecodingConfig) -> Run:
    """Greedy decoding as `generate_tokens` does it."""
    greedy = SamplerConfig(temperature=0.0)

    @torch.inference_mode()
    def run(prompt: Int[Tensor, "b n"], count: int) -> tuple[Tensor, float]:
        tokens = stream_tokens(network, prompt, count, greedy, decoding=decoding)
        found = [next(tokens)]
        start = time.perf_counter()
        found += tokens
        return torch.stack(found, 1), time.perf_counter() - start

    return run


def module_alone(network: Transformer) -> Run:
    """The module itself with its cache: what the decoders save."""
    from openwfm.autoregressive import KeyValueCache

    @torch.inference_mode()
    def run(prompt: Int[Tensor, "b n"], count: int) -> tuple[Tensor, float]:
        cache = KeyValueCache(network.config, batch=len(prompt), capacity=prompt.shape[1] + count)
        step, found, start = prompt, [], 0.0
        for index in range(count):
            if index == 1:
                start = time.perf_counter()
            step = network(step, cache=cache, last_only=True).argmax(-1)
            found.append(step)
        return torch.cat(found, 1), time.perf_counter() - start

    return run
