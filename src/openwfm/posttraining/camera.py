"""A camera path, through the ``channels`` port (arXiv 2501.03575, section 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from openwfm.diffusion.control import Control, Controls, Grid, Ports
from openwfm.posttraining.rays import CHANNELS, PACKINGS, latent_rays
from openwfm.shapes import Temporal
from openwfm.weights import read_fields


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """How rays are packed (`openwfm.posttraining.rays.latent_rays`); the ratios are the
    tokenizer's. ``path_length`` normalises the scale of a path, null keeps metres."""

    packing: str = "centre"
    path_length: float | None = 1.0
    temporal_ratio: int = 8
    spatial_ratio: int = 8
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.packing not in PACKINGS:
            raise ValueError(
                f"control.packing={self.packing}: must be one of {', '.join(PACKINGS)}"
            )
        if self.path_length is not None and not self.path_length > 0:
            raise ValueError(f"control.path_length={self.path_length}: must be positive or null")
        Temporal(ratio=self.temporal_ratio)
        if self.spatial_ratio < 1:
            raise ValueError(f"control.spatial_ratio={self.spatial_ratio}: must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"control.dropout={self.dropout}: must be in [0, 1)")

    def build(self, width: int) -> CameraControl:
        return CameraControl(self)


class CameraControl(Control):
    """No weights: what the rays mean is learned by the network's patch embedding."""

    kind: ClassVar[str] = "camera"
    config: CameraConfig

    def __init__(self, config: CameraConfig) -> None:
        super().__init__()
        self.config = config
        self.channels = CHANNELS
        if config.packing == "unshuffle":
            self.channels *= config.spatial_ratio**2

    @classmethod
    def read(cls, values: Mapping[str, Any], width: int, source: str) -> CameraControl:
        return read_fields(CameraConfig, values, source).build(width)

    def forward(self, controls: Controls, grid: Grid) -> Ports:
        config = self.config
        for name in ("intrinsics", "camera_to_world"):
            if getattr(controls, name) is None:
                raise ValueError(f"camera.{name}: missing: this world follows a camera path")
        assert isinstance(controls.intrinsics, Tensor) and controls.size is not None
        assert isinstance(controls.camera_to_world, Tensor)
        rays = latent_rays(
            controls.intrinsics,
            controls.camera_to_world,
            size=controls.size,
            temporal=Temporal(ratio=config.temporal_ratio),
            spatial_ratio=config.spatial_ratio,
            packing=config.packing,
            path_length=config.path_length,
        )
        if tuple(rays.shape[2:]) != tuple(grid):
            raise ValueError(
                f"camera: a path of {controls.intrinsics.shape[1]} frames gives rays for latents "
                f"{tuple(rays.shape[2:])}: must be {tuple(grid)} (frames, rows, columns)"
            )
        return Ports(channels=rays)
