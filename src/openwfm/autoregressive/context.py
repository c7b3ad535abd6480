"""What else than text a token may look at: the contract of those who fill the ``context`` port.

A control turns what steers a clip into context tokens, which stand beside those of the prompt.
Controls live in `openwfm.posttraining`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

from jaxtyping import Float
from torch import Tensor, nn


class ContextControl(nn.Module, ABC):
    """``config`` is a dataclass of plain values with a ``dropout``; ``kind`` names the class."""

    kind: ClassVar[str]
    config: Any

    @abstractmethod
    def forward(self, actions: Float[Tensor, "b s a"] | None) -> Float[Tensor, "b m d"]:
        """Context tokens. Raises ValueError naming what is missing or does not fit."""

    @classmethod
    @abstractmethod
    def read(cls, values: Mapping[str, Any], width: int, source: str) -> ContextControl:
        """From the values of `export_config`, for context tokens of ``width``."""

    @abstractmethod
    def silence(self) -> None:
        """Let all tokens be zero, which is what padding is: the start on top of a text model."""

    def export_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self.config)}


class ContextControlConfig(Protocol):
    """``build`` makes the control for context tokens of ``width``."""

    dropout: float

    def build(self, width: int) -> ContextControl: ...


# (values of `ContextControl.export_config`, width, source) -> the control.
ContextReader = Callable[[Mapping[str, Any], int, str], ContextControl]


def read_context(
    values: Mapping[str, Any] | None,
    width: int | None,
    source: str,
    known: Mapping[str, ContextReader],
) -> ContextControl | None:
    """Raises ValueError for a kind that is not ``known``, and for a network without context."""
    if values is None:
        return None
    kind = str(values.get("kind"))
    if kind not in known:
        raise ValueError(
            f"{source}: control.kind={kind}: must be one of {', '.join(sorted(known)) or 'none'}"
        )
    if width is None:
        raise ValueError(f"{source}: control.kind={kind}: must come with net.context_width")
    return known[kind]({n: v for n, v in values.items() if n != "kind"}, width, source)
