"""Key map of the autoregressive transformer: ours and the release's, strictly, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from openwfm.autoregressive.config import TransformerConfig, YarnConfig
from openwfm.autoregressive.transformer import Transformer
from openwfm.interop.dit_names import Names, import_tensors
from openwfm.weights import load_strict

PREFIX = "model."
IGNORED = re.compile(r"(^|\.)_extra_state$")  # of TransformerEngine
SOURCE = "state dict of the original release"
_LAYER = re.compile(r"layers\.(\d+)\.")
GRID = (5, 40, 64)  # latent frames, rows and columns of 33 frames of 640x1024


def release_names(config: TransformerConfig) -> Names:
    """Ours to those of ``model.pt`` without their prefix; tied embeddings have no counterpart."""
    if config.tied:
        raise ValueError("net.tied=True: the release has an output of its own")
    names: Names = {
        "embed.weight": ("tok_embeddings.weight",),
        "norm.weight": ("norm.weight",),
        "unembed.weight": ("output.weight",),
    }
    for index in range(config.num_layers):
        at = f"layers.{index}"
        names |= {
            f"{at}.attention_norm.weight": (f"{at}.attention_norm.weight",),
            f"{at}.mlp_norm.weight": (f"{at}.ffn_norm.weight",),
            f"{at}.mlp.gate_up.weight": tuple(f"{at}.feed_forward.w{i}.weight" for i in (1, 3)),
            f"{at}.mlp.down.weight": (f"{at}.feed_forward.w2.weight",),
            f"{at}.attention.qkv.weight": tuple(f"{at}.attention.w{p}.weight" for p in "qkv"),
        }
        kinds = ["attention"]
        if config.context_width is not None:
            kinds.append("cross_attention")
            cross = f"{at}.cross_attention"
            names[f"{at}.cross_norm.weight"] = (f"{at}.cross_attention_norm.weight",)
            names[f"{cross}.q.weight"] = (f"{cross}.wq.weight",)
            names[f"{cross}.kv.weight"] = (f"{cross}.wk.weight", f"{cross}.wv.weight")
        for kind in kinds:
            names[f"{at}.{kind}.out.weight"] = (f"{at}.{kind}.wo.weight",)
            for part in ("q_norm", "k_norm"):
                names[f"{at}.{kind}.{part}.weight"] = (f"{at}.{kind}.{part}.weight",)
    return names


def load_nvidia_transformer(
    state_dict: Mapping[str, Tensor],
    *,
    num_heads: int = 32,
    grid: tuple[int, int, int] = GRID,
    yarn: YarnConfig | None = None,
    absolute_position: bool | None = None,
    rope_theta: float = 500_000.0,
) -> Transformer:
    """An eval-mode network from a release's state dict; its sizes are read from keys and shapes.

    The keyword arguments are what a checkpoint cannot tell. ``yarn`` belongs to the 12B and 13B
    networks; ``absolute_position`` None means: with cross-attention, as in the release. Raises
    ValueError listing every key that does not fit.
    """
    tensors = {
        key.removeprefix(PREFIX): value
        for key, value in state_dict.items()
        if not IGNORED.search(key)
    }
    config = _read_config(tensors, num_heads, grid, yarn, absolute_position, rope_theta)
    with torch.device("meta"):
        network = Transformer(config)
    network.to_empty(device="cpu")
    load_strict(network, import_tensors(tensors, release_names(config), SOURCE), SOURCE)
    return network.eval()


def _read_config(
    tensors: Mapping[str, Tensor],
    num_heads: int,
    grid: tuple[int, int, int],
    yarn: YarnConfig | None,
    absolute_position: bool | None,
    rope_theta: float,
) -> TransformerConfig:
    first = "layers.0"
    keys = {
        "embed": "tok_embeddings.weight",
        "output": "output.weight",
        "keys": f"{first}.attention.wk.weight",
        "norm": f"{first}.attention.q_norm.weight",
        "gate": f"{first}.feed_forward.w1.weight",
    }
    missing = [key for key in keys.values() if key not in tensors]
    if missing:
        raise ValueError(f"{SOURCE}: not of this network: missing {', '.join(missing)}")
    shape = {name: tensors[key].shape for name, key in keys.items()}
    head_dim = shape["norm"][0]
    if shape["keys"][0] % head_dim:
        raise ValueError(
            f"{SOURCE}: {keys['keys']} {tuple(shape['keys'])}: rows must be a multiple of the "
            f"{head_dim} of {keys['norm']}"
        )
    cross = tensors.get(f"{first}.cross_attention.wk.weight")
    rows, vocabulary = shape["embed"][0], shape["output"][0]
    return TransformerConfig(
        width=shape["embed"][1],
        num_layers=1 + max(int(found[1]) for key in tensors if (found := _LAYER.match(key))),
        num_heads=num_heads,
        num_kv_heads=shape["keys"][0] // head_dim,
        head_dim=head_dim,
        hidden=shape["gate"][0],
        vocabulary=vocabulary,
        embeddings=rows,
        grid=grid,
        bov=rows > vocabulary,
        context_width=None if cross is None else cross.shape[1],
        absolute_position=cross is not None if absolute_position is None else absolute_position,
        yarn=yarn,
        rope_theta=rope_theta,
    )


def export_nvidia_transformer(network: Transformer) -> dict[str, Tensor]:
    """The network as a release stores it, with the prefix ``model.``."""
    config, own = network.config, network.state_dict()
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    exported: dict[str, Tensor] = {}
    for ours, keys in release_names(config).items():
        rows = [q, kv, kv] if len(keys) == 3 else [len(own[ours]) // len(keys)] * len(keys)
        for key, part in zip(keys, own[ours].split(rows), strict=True):
            exported[PREFIX + key] = part.clone()
    return exported
