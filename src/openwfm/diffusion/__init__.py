"""Diffusion world models: one network with three ports, EDM objective, samplers."""

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.dit import DiT
from openwfm.diffusion.model import DiffusionWorldModel, load_world_model
from openwfm.diffusion.presets import preset

__all__ = ["DiT", "DiTConfig", "DiffusionWorldModel", "load_world_model", "preset"]
