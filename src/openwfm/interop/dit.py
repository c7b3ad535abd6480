"""The diffusion transformer in the release's and in diffusers' form, strictly both ways.

A missing, unknown or misshapen key is a ValueError that lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.dit import DiT
from openwfm.extras import require
from openwfm.interop.dit_names import (
    BLOCK_KEY,
    diffusers_names,
    export_tensors,
    import_tensors,
    network_tensors,
    release_names,
)
from openwfm.weights import load_strict

if TYPE_CHECKING:
    from diffusers import CosmosTransformer3DModel

# Fields of `CosmosTransformer3DModel`'s config that make it a network of a later family.
LATER = ("use_crossattn_projection", "controlnet_block_every_n", "img_context_dim_in")
NEEDED = (
    *("in_channels", "out_channels", "num_attention_heads", "attention_head_dim", "num_layers"),
    *("mlp_ratio", "text_embed_dim", "adaln_lora_dim", "max_size", "patch_size", "rope_scale"),
    *("concat_padding_mask", "extra_pos_embed_type"),
)


def load_nvidia_dit(
    state_dict: Mapping[str, Tensor],
    *,
    rope_scale: tuple[float, float, float] | None = None,
    patch: tuple[int, int, int] = (1, 2, 2),
    padding_mask: bool = True,
    base_fps: float = 24.0,
    extra_channels: int = 0,
    position_embedding: str | None = None,
    rope_dtype: str = "float32",
    max_size: tuple[int, int, int] | None = None,
) -> DiT:
    """An eval-mode network from a release's state dict; its sizes are read from keys and shapes.

    The keyword arguments are what a checkpoint cannot tell. None means the releases' own:
    ``rope_scale`` (2, 1, 1), (2, 2, 2) for the 5120-wide network and (1, 1.5, 1.5) for the
    diffusion decoder; ``position_embedding`` sincos for several views, none where there are no
    tables.
    """
    tensors = network_tensors(state_dict)
    config = read_config(
        tensors,
        rope_scale=rope_scale,
        patch=patch,
        padding_mask=padding_mask,
        base_fps=base_fps,
        extra_channels=extra_channels,
        position_embedding=position_embedding,
        rope_dtype=rope_dtype,
        max_size=max_size,
    )
    return _build(
        config, import_tensors(tensors, release_names(config), "state dict"), "state dict"
    )


def read_config(
    tensors: Mapping[str, Tensor],
    *,
    rope_scale: tuple[float, float, float] | None = None,
    patch: tuple[int, int, int] = (1, 2, 2),
    padding_mask: bool = True,
    base_fps: float = 24.0,
    extra_channels: int = 0,
    position_embedding: str | None = None,
    rope_dtype: str = "float32",
    max_size: tuple[int, int, int] | None = None,
) -> DiTConfig:
    """The config of a release's network (`network_tensors`); see `load_nvidia_dit`."""
    block = "blocks.block0.blocks"
    keys = {
        "patch_in": "x_embedder.proj.1.weight",
        "patch_out": "final_layer.linear.weight",
        "head": f"{block}.0.block.attn.to_q.1.weight",
        "text": f"{block}.1.block.attn.to_k.0.weight",
        "mlp": f"{block}.2.block.layer1.weight",
        "rank": f"{block}.0.adaLN_modulation.1.weight",
    }
    missing = [key for key in keys.values() if key not in tensors]
    if missing:
        raise ValueError(f"state dict: not of this network: missing {', '.join(missing)}")
    shape = {name: tensors[key].shape for name, key in keys.items()}
    volume = patch[0] * patch[1] * patch[2]
    width = shape["patch_in"][0]
    latent = shape["patch_out"][0] // volume
    views: tuple[int, ...] = (0, 0)
    codes: tuple[int, ...] = (0, 0)
    if "repeat_frame_embedding.weight" in tensors and "view_embeddings.weight" in tensors:
        views = tuple(tensors["view_embeddings.weight"].shape)
    if "token_embedder.weight" in tensors:
        codes = tuple(tensors["token_embedder.weight"].shape)
    ports = extra_channels + views[1] + codes[1] + int(padding_mask)
    masks = shape["patch_in"][1] // volume - latent - ports
    if masks not in (0, 1) or shape["patch_in"][1] % volume:
        raise ValueError(
            f"state dict: {keys['patch_in']} {tuple(shape['patch_in'])}: {masks} channels beyond "
            f"{latent} latent and {ports} others ({extra_channels} extra, {codes[1]} of "
            f"codes, {int(padding_mask)} padding, {views[1]} of views): must be 0 or 1"
        )
    tables = [tensors.get(f"extra_pos_embedder.pos_emb_{axis}") for axis in "thw"]
    lengths = [len(table) for table in tables if table is not None]
    sizes = DiTConfig.max_size
    if len(lengths) == 3:
        t, h, w = (length * part for length, part in zip(lengths, patch, strict=True))
        sizes = (t, h, w)
    position = "learnable" if lengths else "sincos" if views[0] > 1 else "none"
    scale = (2.0, 2.0, 2.0) if width == 5120 else (2.0, 1.0, 1.0)
    return DiTConfig(
        in_channels=latent,
        out_channels=latent,
        condition_mask=masks == 1,
        extra_channels=extra_channels,
        padding_mask=padding_mask,
        width=width,
        num_blocks=1 + max(int(m[1]) for key in tensors if (m := BLOCK_KEY.match(key))),
        num_heads=width // shape["head"][0],
        mlp_ratio=shape["mlp"][0] / width,
        text_width=shape["text"][1],
        adaln_rank=shape["rank"][0],
        patch=patch,
        rope_scale=rope_scale or ((1.0, 1.5, 1.5) if codes[0] else scale),
        max_size=max_size or sizes,
        base_fps=base_fps,
        position_embedding=position_embedding or position,
        rope_dtype=rope_dtype,
        num_views=max(1, views[0]),
        view_channels=views[1],
        codebook=codes[0],
        code_channels=codes[1],
    )


def export_nvidia_dit(net: DiT) -> dict[str, Tensor]:
    """The network as a release stores it, with the prefix ``net.``."""
    tensors = export_tensors(net.state_dict(), release_names(net.config))
    return {f"net.{key}": value for key, value in tensors.items()}


def from_diffusers_dit(module: CosmosTransformer3DModel) -> DiT:
    """Our eval-mode network with the weights of theirs."""
    state: dict[str, Tensor] = module.state_dict()  # type: ignore[attr-defined]
    fields: Mapping[str, Any] = module.config  # type: ignore[attr-defined]
    return dit_of_diffusers(fields, state, "diffusers module")


def dit_of_diffusers(fields: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str) -> DiT:
    """As `from_diffusers_dit`, from diffusers' config (its config.json) and tensors."""
    missing = [name for name in NEEDED if name not in fields]
    if missing:
        raise ValueError(f"{source}: config lacks {', '.join(missing)}")
    theirs = SimpleNamespace(**{name: fields[name] for name in NEEDED})
    condition = theirs.in_channels - theirs.out_channels
    later = [name for name in LATER if fields.get(name)]
    if condition not in (0, 1) or later:
        raise ValueError(
            f"{source}: in_channels={theirs.in_channels}, out_channels={theirs.out_channels}, "
            f"{later}: must be a Cosmos 1 network (one condition mask at most, no projections)"
        )
    config = DiTConfig(
        in_channels=theirs.out_channels,
        out_channels=theirs.out_channels,
        condition_mask=condition == 1,
        padding_mask=theirs.concat_padding_mask,
        width=theirs.num_attention_heads * theirs.attention_head_dim,
        num_blocks=theirs.num_layers,
        num_heads=theirs.num_attention_heads,
        mlp_ratio=theirs.mlp_ratio,
        text_width=theirs.text_embed_dim,
        adaln_rank=theirs.adaln_lora_dim,
        patch=tuple(theirs.patch_size),
        rope_scale=tuple(theirs.rope_scale),
        max_size=tuple(theirs.max_size),
        position_embedding="learnable" if theirs.extra_pos_embed_type else "none",
    )
    return _build(config, import_tensors(tensors, diffusers_names(config), source), source)


def to_diffusers_dit(net: DiT) -> CosmosTransformer3DModel:
    """Their eval-mode network with our weights. Raises ValueError for what theirs cannot do."""
    config = net.config
    fixed = {
        "extra_channels": 0,
        "base_fps": 24.0,
        "rope_dtype": "float32",
        "num_views": 1,
        "codebook": 0,
    }
    other = {name: getattr(config, name) for name in fixed if getattr(config, name) != fixed[name]}
    if config.position_embedding == "sincos":
        other["position_embedding"] = "sincos"
    if other:
        found = ", ".join(f"net.{name}={value}" for name, value in other.items())
        rules = {**fixed, "position_embedding": "learnable or none"}
        raise ValueError(
            f"{found}: must be {', '.join(str(rules[name]) for name in other)} for diffusers"
        )
    diffusers = require("diffusers", extra="diffusers")
    module = diffusers.CosmosTransformer3DModel(
        in_channels=config.in_channels + int(config.condition_mask),
        out_channels=config.out_channels,
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_dim,
        num_layers=config.num_blocks,
        mlp_ratio=config.mlp_ratio,
        text_embed_dim=config.text_width,
        adaln_lora_dim=config.adaln_rank,
        max_size=config.max_size,
        patch_size=config.patch,
        rope_scale=config.rope_scale,
        concat_padding_mask=config.padding_mask,
        extra_pos_embed_type="learnable" if config.position_embedding == "learnable" else None,
    )
    load_strict(module, export_tensors(net.state_dict(), diffusers_names(config)), "exported DiT")
    return module.eval()


def _build(config: DiTConfig, tensors: Mapping[str, Tensor], source: str) -> DiT:
    with torch.device("meta"):
        net = DiT(config)
    net.to_empty(device="cpu")
    load_strict(net, tensors, source)
    return net.eval()
