"""Post-training: camera, action, instruction and driving worlds, and adapters. Ports are filled,
no network is forked (arXiv 2501.03575, section 6)."""

from openwfm.posttraining.action import ActionControl
from openwfm.posttraining.action_tokens import ActionTokens
from openwfm.posttraining.camera import CameraControl
from openwfm.posttraining.driving import TrajectoryControl

# Kinds of control that a published world may have.
CONTROLS = {kind.kind: kind.read for kind in (ActionControl, CameraControl, TrajectoryControl)}
# And an autoregressive one.
CONTEXTS = {ActionTokens.kind: ActionTokens.read}

__all__ = [
    "CONTEXTS",
    "CONTROLS",
    "ActionControl",
    "ActionTokens",
    "CameraControl",
    "TrajectoryControl",
]
