"""Importing this makes the environments known: ``import openwfm.envs``, then
``gymnasium.make("openwfm/Manipulation-v0", task=…)``; or, in one string,
``gymnasium.make("openwfm.envs:openwfm/Manipulation-v0")``."""

from openwfm.simulation.manipulation.register import register

register()
