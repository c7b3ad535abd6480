"""One visitor of a world: branches of a session, and what the messages of a page do to them."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from openwfm.video import to_uint8
from openwfm.world.session import Session


class MessageError(ValueError):
    """A message that is none of ours; its connection is closed."""


@dataclass
class Branch:
    """A session of one row, and the frames it has shown."""

    session: Session
    history: deque[UInt8[Tensor, "h w c"]] = field(default_factory=deque)

    def show(self) -> UInt8[Tensor, "h w c"]:
        frame = to_uint8(self.session.frames.transpose(0, 1))[0]
        self.history.append(frame)
        return frame


class Visit:
    """State of one connection; no network in it, so that it can be tested by itself."""

    def __init__(
        self, beginnings: Sequence[Session], *, max_branches: int, max_history: int
    ) -> None:
        self._beginnings, self._max_branches = beginnings, max_branches
        self._max_history = max_history
        self.branches: list[Branch] = []
        self.current = 0
        self.scene = 0
        self.start(0)

    @property
    def branch(self) -> Branch:
        return self.branches[self.current]

    def start(self, scene: int) -> UInt8[Tensor, "h w c"]:
        """Begin anew with one branch, from beginning number ``scene``."""
        if not 0 <= scene < len(self._beginnings):
            raise MessageError(f"scene={scene}: must be 0 to {len(self._beginnings) - 1}")
        history: deque[Tensor] = deque(maxlen=self._max_history)
        self.branches = [Branch(self._beginnings[scene].fork(), history)]
        self.current, self.scene = 0, scene
        return self.branch.show()

    def handle(self, text: str) -> UInt8[Tensor, "h w c"]:
        """Do what a message says and give the picture to show; MessageError for nonsense."""
        message = _parse(text)
        kind = message.get("do")
        if kind == "act":
            self.branch.session.step(self._action(message))
            return self.branch.show()
        if kind == "reset":
            return self.start(_whole(message, "scene", self.scene))
        if kind == "fork":
            return self._fork()
        if kind == "switch":
            number = _whole(message, "branch", self.current)
            if not 0 <= number < len(self.branches):
                raise MessageError(f"branch={number}: must be 0 to {len(self.branches) - 1}")
            self.current = number
            return self.branch.history[-1]
        raise MessageError("do: must be one of act, reset, fork, switch")

    def facts(self) -> dict[str, Any]:
        return {
            "branch": self.current,
            "branches": len(self.branches),
            "scene": self.scene,
            "steps": self.branch.session.num_steps[0],
        }

    def clip(self) -> UInt8[Tensor, "t h w c"]:
        """What the current branch has shown."""
        return torch.stack(list(self.branch.history))

    def _fork(self) -> UInt8[Tensor, "h w c"]:
        if len(self.branches) >= self._max_branches:
            raise MessageError(f"fork: there are {self._max_branches} branches, which is the most")
        self.branches.append(
            Branch(self.branch.session.fork(), deque(self.branch.history, self._max_history))
        )
        self.current = len(self.branches) - 1
        return self.branch.history[-1]

    def _action(self, message: dict[str, Any]) -> Tensor:
        """Clamped to the bounds of the world's actions."""
        space, values = self.branch.session.actions, message.get("action")
        if not isinstance(values, list) or len(values) != len(space):
            raise MessageError(f"action: must be a list of {len(space)} numbers")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise MessageError("action: must be numbers")
            if not abs(value) <= sys.float_info.max:  # also no whole number that is no float
                raise MessageError("action: must be finite")
        bounds = zip(values, space.low, space.high, strict=True)
        return torch.tensor([min(max(float(v), low), high) for v, low, high in bounds])


def _parse(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"message: no JSON ({error})") from error
    if not isinstance(message, dict):
        raise MessageError("message: must be an object")
    return message


def _whole(message: dict[str, Any], name: str, default: int) -> int:
    value = message.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MessageError(f"{name}: must be a whole number")
    return value
