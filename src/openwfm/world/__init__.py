"""Worlds: loaded from weights, they generate futures."""

from openwfm.world.world import Generation, Sampling, World, WorldFacts

__all__ = ["Generation", "Sampling", "World", "WorldFacts"]
