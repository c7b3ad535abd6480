"""Adapter files: what was learned beside published weights, and the two made one again."""

from __future__ import annotations

from pathlib import Path

import torch

from openwfm.diffusion import DiffusionWorldModel
from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.control import read_control
from openwfm.diffusion.stages import start_from
from openwfm.files import sha256_file
from openwfm.posttraining import CONTROLS
from openwfm.posttraining.lora import LoraConfig, add_lora, load_learned, merge_lora
from openwfm.weights import CONFIG, TENSORS, read_fields, read_weights


def load_adapted(base: Path | str, adapter: Path | str) -> DiffusionWorldModel:
    """A published base with the adapter that was trained on it, merged, in eval mode.

    Raises ValueError when the adapter is of another base, or anything does not fit.
    """
    config, tensors = read_weights(adapter, kind="adapter")
    source = str(Path(adapter))
    found = sha256_file(Path(base) / TENSORS)
    if found != config.get("base_sha256"):
        raise ValueError(
            f"{source}/{CONFIG}: base_sha256={config.get('base_sha256')}: must be that of "
            f"{Path(base) / TENSORS}, {found}"
        )
    net = read_fields(DiTConfig, config["net"], source)
    model = DiffusionWorldModel(
        net=net,
        control=read_control(config.get("control"), net.width, source, CONTROLS),
        objective=read_fields(EdmConfig, config["objective"], source),
        conditioner=read_fields(ConditionerConfig, config["conditioner"], source),
        sampler=read_fields(SamplerConfig, config["sampler"], source),
    )
    start_from(model, base, resize=True)
    lora = read_fields(LoraConfig, config["lora"], source)
    add_lora(model, lora, torch.Generator())
    load_learned(model, tensors)
    merge_lora(model)
    return model.eval().requires_grad_(False)
