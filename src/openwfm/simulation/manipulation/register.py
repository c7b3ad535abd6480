"""``gymnasium.make("openwfm/Manipulation-v0", task=…)``."""

from __future__ import annotations

ENV_ID = "openwfm/Manipulation-v0"


def register() -> None:
    """Make the environment known to gymnasium, which calls this when openwfm is installed.

    Calling it again does nothing.
    """
    from gymnasium.envs import registration

    if ENV_ID not in registration.registry:
        registration.register(
            id=ENV_ID, entry_point="openwfm.simulation.manipulation.env:ManipulationEnv"
        )
