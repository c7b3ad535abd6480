"""Key maps of the diffusion transformer: ours, the release's and diffusers'.

A map says, for each of our tensors, which of theirs are stacked along its rows. Loading is strict
both ways: a missing, unknown or misshapen key is a ValueError that lists it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.dit import DiT
from openwfm.extras import require
from openwfm.weights import load_strict

if TYPE_CHECKING:
    from diffusers import CosmosTransformer3DModel

Names = dict[str, tuple[str, ...]]

# Keys of a release that hold no parameter of the network.
IGNORED = re.compile(r"(^|\.)(_extra_state|pos_embedder\.seq)$|^logvar\.")
BLOCK_KEY = re.compile(r"blocks\.block(\d+)\.")


def release_names(config: DiTConfig) -> Names:
    """Ours to the original ``model.pt``, without its prefix ``net.`` ("affline" is theirs)."""
    names: Names = {
        "patch_in.weight": ("x_embedder.proj.1.weight",),
        "level.linear_1.weight": ("t_embedder.1.linear_1.weight",),
        "level.linear_2.weight": ("t_embedder.1.linear_2.weight",),
        "level.norm.weight": ("affline_norm.weight",),
        "final_modulation.down.weight": ("final_layer.adaLN_modulation.1.weight",),
        "final_modulation.up.weight": ("final_layer.adaLN_modulation.2.weight",),
        "patch_out.weight": ("final_layer.linear.weight",),
    }
    if config.position_embedding == "learnable":
        names |= {f"position.{a}": (f"extra_pos_embedder.pos_emb_{a}",) for a in "thw"}
    for index in range(config.num_blocks):
        ours, theirs = f"blocks.{index}", f"blocks.block{index}.blocks"
        for j in range(3):
            modulation = f"{theirs}.{j}.adaLN_modulation"
            names[f"{ours}.modulations.{j}.down.weight"] = (f"{modulation}.1.weight",)
            names[f"{ours}.modulations.{j}.up.weight"] = (f"{modulation}.2.weight",)
        names |= _attention_names(ours, [f"{theirs}.{j}.block.attn" for j in range(2)], ".0", ".1")
        names[f"{ours}.mlp.0.weight"] = (f"{theirs}.2.block.layer1.weight",)
        names[f"{ours}.mlp.2.weight"] = (f"{theirs}.2.block.layer2.weight",)
    return names


def _attention_names(ours: str, theirs: list[str], linear: str, norm: str) -> Names:
    own, cross = theirs
    names: Names = {
        f"{ours}.self_attention.qkv.weight": tuple(f"{own}.to_{p}{linear}.weight" for p in "qkv"),
        f"{ours}.cross_attention.q.weight": (f"{cross}.to_q{linear}.weight",),
        f"{ours}.cross_attention.kv.weight": tuple(f"{cross}.to_{p}{linear}.weight" for p in "kv"),
    }
    for kind, prefix in (("self", own), ("cross", cross)):
        names[f"{ours}.{kind}_attention.out.weight"] = (f"{prefix}.to_out.0.weight",)
        for part in "qk":
            key = f"{prefix}.to_{part}{norm}.weight" if norm else f"{prefix}.norm_{part}.weight"
            names[f"{ours}.{kind}_attention.{part}_norm.weight"] = (key,)
    return names


def diffusers_names(config: DiTConfig) -> Names:
    """Ours to diffusers' ``CosmosTransformer3DModel``."""
    names: Names = {
        "patch_in.weight": ("patch_embed.proj.weight",),
        "level.linear_1.weight": ("time_embed.t_embedder.linear_1.weight",),
        "level.linear_2.weight": ("time_embed.t_embedder.linear_2.weight",),
        "level.norm.weight": ("time_embed.norm.weight",),
        "final_modulation.down.weight": ("norm_out.linear_1.weight",),
        "final_modulation.up.weight": ("norm_out.linear_2.weight",),
        "patch_out.weight": ("proj_out.weight",),
    }
    if config.position_embedding == "learnable":
        names |= {f"position.{a}": (f"learnable_pos_embed.pos_emb_{a}",) for a in "thw"}
    for index in range(config.num_blocks):
        ours, theirs = f"blocks.{index}", f"transformer_blocks.{index}"
        for j in range(3):
            for part, number in (("down", 1), ("up", 2)):
                key = f"{theirs}.norm{j + 1}.linear_{number}.weight"
                names[f"{ours}.modulations.{j}.{part}.weight"] = (key,)
        names |= _attention_names(ours, [f"{theirs}.attn1", f"{theirs}.attn2"], "", "")
        names[f"{ours}.mlp.0.weight"] = (f"{theirs}.ff.net.0.proj.weight",)
        names[f"{ours}.mlp.2.weight"] = (f"{theirs}.ff.net.2.weight",)
    return names


def import_tensors(tensors: Mapping[str, Tensor], names: Names, source: str) -> dict[str, Tensor]:
    """Their tensors under our names. Raises ValueError listing missing and unknown keys."""
    wanted = {key for keys in names.values() for key in keys}
    problems = [f"missing {key}" for key in sorted(wanted - set(tensors))]
    problems += [f"unknown {key}" for key in sorted(set(tensors) - wanted)]
    if problems:
        raise ValueError(f"{source}: {len(problems)} keys do not fit:\n  " + "\n  ".join(problems))
    return {ours: torch.cat([tensors[k] for k in keys]) for ours, keys in names.items()}


def export_tensors(tensors: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Our tensors under their names, stacked ones taken apart."""
    exported: dict[str, Tensor] = {}
    for ours, keys in names.items():
        parts = tensors[ours].chunk(len(keys))
        exported |= {key: part.clone() for key, part in zip(keys, parts, strict=True)}
    return exported


def load_nvidia_dit(
    state_dict: Mapping[str, Tensor],
    *,
    rope_scale: tuple[float, float, float] | None = None,
    patch: tuple[int, int, int] = (1, 2, 2),
    padding_mask: bool = True,
    base_fps: float = 24.0,
) -> DiT:
    """An eval-mode network from a release's state dict; its sizes are read from keys and shapes.

    ``rope_scale`` None means the releases' own: (2, 1, 1), or (2, 2, 2) for the 5120-wide network.
    """
    tensors = {
        key.removeprefix("net."): value
        for key, value in state_dict.items()
        if not IGNORED.search(key)
    }
    config = _read_config(tensors, rope_scale, patch, padding_mask, base_fps)
    return _build(
        config, import_tensors(tensors, release_names(config), "state dict"), "state dict"
    )


def _read_config(
    tensors: Mapping[str, Tensor],
    rope_scale: tuple[float, float, float] | None,
    patch: tuple[int, int, int],
    padding_mask: bool,
    base_fps: float,
) -> DiTConfig:
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
    masks = shape["patch_in"][1] // volume - latent - int(padding_mask)
    if masks not in (0, 1):
        raise ValueError(
            f"state dict: {keys['patch_in']} {tuple(shape['patch_in'])}: {masks} channels beyond "
            f"{latent} latent and {int(padding_mask)} padding ones: must be 0 or 1"
        )
    learnable = "extra_pos_embedder.pos_emb_t" in tensors
    sizes = DiTConfig.max_size
    if learnable:
        t, h, w = (len(tensors[f"extra_pos_embedder.pos_emb_{axis}"]) for axis in "thw")
        sizes = (t * patch[0], h * patch[1], w * patch[2])
    return DiTConfig(
        in_channels=latent,
        out_channels=latent,
        condition_mask=masks == 1,
        padding_mask=padding_mask,
        width=width,
        num_blocks=1 + max(int(m[1]) for key in tensors if (m := BLOCK_KEY.match(key))),
        num_heads=width // shape["head"][0],
        mlp_ratio=shape["mlp"][0] / width,
        text_width=shape["text"][1],
        adaln_rank=shape["rank"][0],
        patch=patch,
        rope_scale=rope_scale or ((2.0, 2.0, 2.0) if width == 5120 else (2.0, 1.0, 1.0)),
        max_size=sizes,
        base_fps=base_fps,
        position_embedding="learnable" if learnable else "none",
    )


def export_nvidia_dit(net: DiT) -> dict[str, Tensor]:
    """The network as a release stores it, with the prefix ``net.``."""
    tensors = export_tensors(net.state_dict(), release_names(net.config))
    return {f"net.{key}": value for key, value in tensors.items()}


def from_diffusers_dit(module: CosmosTransformer3DModel) -> DiT:
    """Our eval-mode network with the weights of theirs."""
    theirs: Any = module.config  # type: ignore[attr-defined]
    condition = theirs.in_channels - theirs.out_channels
    unsupported = [
        name
        for name in ("use_crossattn_projection", "controlnet_block_every_n", "img_context_dim_in")
        if theirs.get(name)
    ]
    if condition not in (0, 1) or unsupported:
        raise ValueError(
            f"diffusers config: in_channels={theirs.in_channels}, {unsupported}: must be a "
            "Cosmos 1 network (one condition mask at most, no projections)"
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
    state: dict[str, Tensor] = module.state_dict()  # type: ignore[attr-defined]
    tensors = import_tensors(state, diffusers_names(config), "diffusers module")
    return _build(config, tensors, "diffusers module")


def to_diffusers_dit(net: DiT) -> CosmosTransformer3DModel:
    """Their eval-mode network with our weights. Raises ValueError for what theirs cannot do."""
    config = net.config
    if config.extra_channels or config.base_fps != 24:
        raise ValueError(
            f"net.extra_channels={config.extra_channels}, net.base_fps={config.base_fps}: must be "
            "0 and 24 for diffusers"
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
