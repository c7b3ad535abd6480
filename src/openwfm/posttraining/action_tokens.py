"""Actions of a robot as context tokens of an autoregressive world (arXiv 2501.03575, section 6.2).

Every action of a clip is one token, an MLP of it plus an embedding of its step, so that whatever
the tokenizer makes of time, a video token can look for the actions that lead to its frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openwfm.autoregressive.context import ContextControl
from openwfm.posttraining.action import ActionConfig, check_actions
from openwfm.weights import read_fields


@dataclass(frozen=True, kw_only=True)
class ActionTokensConfig(ActionConfig):
    """As `ActionConfig`; ``steps`` is how many actions a clip has."""

    steps: int = 16

    def build(self, width: int) -> ActionTokens:  # type: ignore[override]
        return ActionTokens(self, width)


class ActionTokens(ContextControl):
    kind: ClassVar[str] = "action_tokens"
    config: ActionTokensConfig

    def __init__(self, config: ActionTokensConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(config.mean), persistent=False)
        self.register_buffer("std", torch.tensor(config.std), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        hidden = int(config.hidden_ratio * width)
        self.step = nn.Parameter(torch.randn(config.steps, width))
        self.embed = nn.Sequential(
            nn.Linear(len(config.names), hidden), nn.GELU(approximate="tanh"),
            nn.Linear(hidden, width),
        )  # fmt: skip

    @classmethod
    def read(cls, values: Mapping[str, Any], width: int, source: str) -> ActionTokens:
        return read_fields(ActionTokensConfig, values, source).build(width)

    def forward(self, actions: Float[Tensor, "b s a"] | None) -> Float[Tensor, "b s d"]:
        known = check_actions(actions, self.config)
        if known.shape[1] != self.config.steps:
            raise ValueError(
                f"action: {known.shape[1]} steps: must be control.steps={self.config.steps}, "
                "those of a clip"
            )
        tokens: Tensor = self.embed((known - self.mean) / self.std) + self.step
        return tokens

    @torch.no_grad()
    def silence(self) -> None:
        last = self.embed[-1]
        assert isinstance(last, nn.Linear)
        for parameter in (self.step, last.weight, last.bias):
            parameter.zero_()
