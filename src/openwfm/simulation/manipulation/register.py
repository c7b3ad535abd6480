"""The environment's id, and its registration."""

from __future__ import annotations

ENV_ID = "openwfm/Manipulation-v0"


def register() -> None:
    """Make the environment known to gymnasium (``import openwfm.envs`` calls this); calling it
    again does nothing."""
    from gymnasium.envs import registration

    if ENV_ID not in registration.registry:
        registration.register(
            id=ENV_ID, entry_point="openwfm.simulation.manipulation.env:ManipulationEnv"
        )
