"""Diffusion world models: one network with three ports, EDM objective, samplers."""

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.dit import DiT
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.diffusion.presets import preset
from openwfm.diffusion.published import load_world_model

__all__ = ["DiT", "DiTConfig", "DiffusionWorldModel", "load_world_model", "preset"]
