"""Published diffusion world models: read from a folder, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.control import ControlReader, read_control
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.weights import load_strict, read_fields, read_weights


def load_world_model(
    folder: Path | str,
    controls: Mapping[str, ControlReader] | None = None,
    *,
    kind: str = "world",
) -> DiffusionWorldModel:
    """The model of a published folder, in eval mode; ``controls`` are the kinds it may have, and
    ``kind`` decoder is one that reads tokens.

    Raises ValueError when anything differs.
    """
    config, tensors = read_weights(folder, kind=kind)
    source = str(Path(folder))
    parts = {"net", "objective", "conditioner", "sampler"}
    if config.get("family") != "diffusion" or not parts <= set(config):
        raise ValueError(f"{source}: config.json: must have family=diffusion and {sorted(parts)}")
    net = read_fields(DiTConfig, config["net"], source)
    model = DiffusionWorldModel(
        net=net,
        control=read_control(config.get("control"), net.width, source, controls or {}),
        objective=read_fields(EdmConfig, config["objective"], source),
        conditioner=read_fields(ConditionerConfig, config["conditioner"], source),
        sampler=read_fields(SamplerConfig, config["sampler"], source),
    )
    for name in ("latent_mean", "latent_std"):
        if name not in tensors:
            raise ValueError(f"{source}: model.safetensors: no {name}")
    model.set_latent_statistics(tensors["latent_mean"], tensors["latent_std"])
    load_strict(model, tensors, source)
    return model.eval()
