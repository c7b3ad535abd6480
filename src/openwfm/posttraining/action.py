"""Actions of a robot, through the ``modulation`` port (arXiv 2501.03575, section 6.2).

Two MLPs turn the last actions into what is added to the noise level's embedding and to the shared
modulation. The released code computes the first and drops it; here both live. Both start at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from openwfm.diffusion.control import Control, Controls, Grid, Ports
from openwfm.weights import read_fields


@dataclass(frozen=True, kw_only=True)
class ActionConfig:
    """Actions of ``len(names)`` numbers at ``rate`` a second; the last ``steps`` of them are seen.

    ``mean`` and ``std`` normalise each dimension; ``low`` and ``high`` bound it for those who draw
    actions. ``dropout`` is the share of training samples that see none.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rate: float
    steps: int = 1
    hidden_ratio: float = 4.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        lists = ("names", "units", "mean", "std", "low", "high")
        for name in lists:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len({len(getattr(self, name)) for name in lists}) != 1 or not self.names:
            raise ValueError(f"control: {', '.join(lists)}: must be of one length, 1 or more")
        if not min(self.std) > 0:
            raise ValueError(f"control.std={self.std}: must be positive")
        if not self.rate > 0 or not self.hidden_ratio > 0:
            raise ValueError("control.rate, control.hidden_ratio: must be positive")
        if self.steps < 1:
            raise ValueError(f"control.steps={self.steps}: must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"control.dropout={self.dropout}: must be in [0, 1)")

    def build(self, width: int) -> ActionControl:
        return ActionControl(self, width)


class ActionControl(Control):
    """The last ``steps`` actions before the last frame of a clip, to the modulation of all."""

    kind: ClassVar[str] = "action"
    config: ActionConfig

    def __init__(self, config: ActionConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(config.mean), persistent=False)
        self.register_buffer("std", torch.tensor(config.std), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        given, hidden = config.steps * len(config.names), int(config.hidden_ratio * width)
        self.embedding = _mlp(given, hidden, width)
        self.shared = _mlp(given, hidden, 3 * width)

    @classmethod
    def read(cls, values: Mapping[str, Any], width: int, source: str) -> ActionControl:
        return read_fields(ActionConfig, values, source).build(width)

    def forward(self, controls: Controls, grid: Grid) -> Ports:
        actions = check_actions(controls.action, self.config)
        seen = ((actions[:, -self.config.steps :] - self.mean) / self.std).flatten(1)
        return Ports(modulation=torch.cat((self.embedding(seen), self.shared(seen)), dim=1))


def check_actions(actions: Tensor | None, config: ActionConfig) -> Float[Tensor, "b s a"]:
    """Raises ValueError when they are missing, of another dimension, too few or not finite."""
    if actions is None:
        raise ValueError("action: missing: this world needs one before every frame it makes")
    if actions.ndim != 3 or actions.shape[2] != len(config.names):
        raise ValueError(
            f"action: shape {tuple(actions.shape)}: must be (batch, steps, "
            f"{len(config.names)}): {', '.join(config.names)}"
        )
    if actions.shape[1] < config.steps:
        raise ValueError(
            f"action: {actions.shape[1]} steps: must be at least control.steps={config.steps}"
        )
    if not bool(torch.isfinite(actions).all()):
        raise ValueError("action: must be finite")
    return actions.float()


def _mlp(given: int, hidden: int, out: int) -> nn.Sequential:
    last = nn.Linear(hidden, out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(given, hidden), nn.GELU(approximate="tanh"), last)


def release_action(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The released names (``action_embedder_B_D``, ``…_B_3D``; fc1, fc2) as ours.

    Raises ValueError for keys that are none of these.
    """
    ours = {"D": "embedding", "3D": "shared"}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        parts = name.rsplit("action_embedder_B_", 1)[-1].split(".")
        if len(parts) != 3 or parts[0] not in ours or parts[1] not in ("fc1", "fc2"):
            raise ValueError(f"{name}: no key of an action embedder")
        found[f"{ours[parts[0]]}.{2 * (int(parts[1][2]) - 1)}.{parts[2]}"] = tensor
    return found


def shifted(actions: Float[Tensor, "b s a"], steps: int) -> Float[Tensor, "b s a"]:
    """Actions of ``steps`` earlier in their place, the first one repeated: a wrong condition."""
    return F.pad(actions.transpose(1, 2), (steps, 0), mode="replicate").transpose(1, 2)[
        :, : actions.shape[1]
    ]
