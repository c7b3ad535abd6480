"""What fills the ports of a world besides text and given frames: camera, action, trajectory.

A control is a small module beside the network. It turns what steers a clip into tensors for the
``channels`` and ``modulation`` ports, and starts at zero effect, so that a network it is added to
is the one it was. Controls live in `openwfm.posttraining`; this is the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openwfm.data.batch import VideoBatch

Grid = tuple[int, int, int]  # latent frames, rows, columns


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What steers a batch; None where nothing does. ``size`` is (rows, columns) of the pixels that
    ``intrinsics`` are for. What is ``dropped`` steers nothing, as at times in training."""

    intrinsics: Float[Tensor, "b t 3 3"] | None = None
    camera_to_world: Float[Tensor, "b t 4 4"] | None = None
    action: Float[Tensor, "b s a"] | None = None
    trajectory: Float[Tensor, "b 64 3"] | None = None
    size: tuple[int, int] | None = None
    dropped: bool = False

    @classmethod
    def of(cls, batch: VideoBatch, size: tuple[int, int]) -> Controls:
        return cls(
            intrinsics=batch.intrinsics,
            camera_to_world=batch.camera_to_world,
            action=batch.action,
            trajectory=batch.trajectory,
            size=size,
        )

    def rows(self, index: Sequence[int] | Tensor) -> Controls:
        """Those of some samples, in that order."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            changed[field.name] = value[index] if isinstance(value, Tensor) else value
        return Controls(**changed)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """``modulation`` is D + 3D wide: for the level's embedding, and for what sub-blocks share."""

    channels: Float[Tensor, "b k f y x"] | None = None
    modulation: Float[Tensor, "b m"] | None = None

    def kept(self, keep: Bool[Tensor, " b"]) -> Ports:
        """Zero, which is no control, for samples that are not to ``keep``."""
        changed: dict[str, Tensor | None] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                rows = keep.to(value.device).view(-1, *[1] * (value.ndim - 1))
                value = value.masked_fill(~rows, 0.0)
            changed[field.name] = value
        return Ports(**changed)


class Control(nn.Module, ABC):
    """``config`` is a dataclass of plain values with a ``dropout``; ``kind`` names the class."""

    kind: ClassVar[str]
    config: Any
    channels: int = 0

    @abstractmethod
    def forward(self, controls: Controls, grid: Grid) -> Ports:
        """For latents of ``grid``. Raises ValueError naming what is missing or does not fit."""

    @classmethod
    @abstractmethod
    def read(cls, values: Mapping[str, Any], width: int, source: str) -> Control:
        """From the values of `export_config`, for a network of ``width``."""

    def export_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self.config)}


class ControlConfig(Protocol):
    """``build`` makes the control for a network of ``width``."""

    dropout: float

    def build(self, width: int) -> Control: ...


class Adaptation(Protocol):
    """How a network learns through a few tensors beside its own (`openwfm.posttraining.lora`)."""

    def adapt(self, network: nn.Module, generator: torch.Generator) -> None:
        """Add them in place; ``network`` computes what it did, and nothing else of it learns."""

    def merged(self, network: nn.Module) -> nn.Module:
        """A copy that computes the same with the layers that it had before."""

    def learned(self, network: nn.Module) -> dict[str, Tensor]:
        """What, with the base, is the whole."""

    def export_config(self) -> dict[str, Any]: ...


# (values of `Control.export_config`, width of the network) -> the control.
ControlReader = Callable[[Mapping[str, Any], int, str], Control]


def read_control(
    values: Mapping[str, Any] | None, width: int, source: str, known: Mapping[str, ControlReader]
) -> Control | None:
    """Raises ValueError for a kind that is not ``known``."""
    if values is None:
        return None
    kind = str(values.get("kind"))
    if kind not in known:
        raise ValueError(
            f"{source}: control.kind={kind}: must be one of {', '.join(sorted(known)) or 'none'}"
        )
    return known[kind]({n: v for n, v in values.items() if n != "kind"}, width, source)
