"""Worlds: loaded from weights, they generate futures."""

from openwfm.world.generation import Generation, Sampling, WorldFacts
from openwfm.world.world import World

__all__ = ["Generation", "Sampling", "World", "WorldFacts"]
