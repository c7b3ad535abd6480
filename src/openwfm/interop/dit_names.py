"""Key maps of the diffusion transformer: ours, the release's and diffusers'.

A map says, for each of our tensors, which of theirs are stacked along its rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from openwfm.diffusion.config import DiTConfig

Names = dict[str, tuple[str, ...]]

# Keys of a release that hold no parameter of the network.
IGNORED = re.compile(r"(^|\.)(_extra_state|pos_embedder\.seq)$|^logvar\.")
ACTION = re.compile(r"(?:^|\.)action_embedder_B_(3?D)\.fc([12])\.(weight|bias)$")
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
    if config.num_views > 1:
        names["views.embedding.weight"] = ("view_embeddings.weight",)
        for part in ("weight", "bias"):
            names[f"views.repeat.{part}"] = (f"repeat_frame_embedding.{part}",)
    if config.codebook:
        names["codes.embedding.weight"] = ("token_embedder.weight",)
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


def network_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A release's tensors of the network, without the prefix ``net.``.

    A patch embedding stored as a convolution (``legacy_patch_emb``) becomes the linear layer that
    it is. Raises ValueError for action embedders, which have no place in the network itself.
    """
    tensors = {
        key.removeprefix("net."): value
        for key, value in state_dict.items()
        if not IGNORED.search(key)
    }
    if found := sorted(key for key in tensors if ACTION.match(key)):
        raise ValueError(
            f"state dict: {len(found)} keys of action embedders ({found[0]}, …): take them off "
            "with openwfm.interop.nvidia.split_action first"
        )
    if (convolution := tensors.pop("x_embedder.proj.weight", None)) is not None:
        tensors["x_embedder.proj.1.weight"] = convolution.flatten(1)
    return tensors


def split_action(
    state_dict: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A release's tensors without its action embedders, and those embedders.

    The latter are two MLPs (linear, GELU with tanh, linear) as ``embedding.{0,2}.{weight,bias}``,
    whose output is as wide as the network, and ``modulation.{0,2}.…``, three times as wide: what
    the ``modulation`` port takes. In the released code the first has no effect.
    """
    rest, action = {}, {}
    for key, value in state_dict.items():
        if found := ACTION.search(key):
            kind = "modulation" if found[1] == "3D" else "embedding"
            action[f"{kind}.{2 * (int(found[2]) - 1)}.{found[3]}"] = value
        else:
            rest[key] = value
    return rest, action


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
