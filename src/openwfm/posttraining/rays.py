"""Plücker rays of a camera path on the grid of latents (arXiv 2501.03575, section 6.1.1).

A pixel's ray is its unit direction d and its moment o × d, with o the camera's centre, both in the
axes of the first camera. Seen from there the rays of the first frame have moment zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from openwfm.shapes import Temporal

CHANNELS = 6
RIGID = 1e-3  # how far from orthonormal a rotation may be
PACKINGS = ("centre", "unshuffle")


def check_poses(camera_to_world: Float[Tensor, "*b t 4 4"]) -> None:
    """Raises ValueError for poses that are no rigid motions of a right-handed camera."""
    shape = tuple(camera_to_world.shape)
    if len(shape) < 3 or shape[-2:] != (4, 4):
        raise ValueError(f"camera.camera_to_world: shape {shape}: must be (frames, 4, 4)")
    poses = camera_to_world.double()
    if not bool(torch.isfinite(poses).all()):
        raise ValueError("camera.camera_to_world: must be finite")
    last = poses.new_tensor([0.0, 0.0, 0.0, 1.0])
    if not torch.allclose(poses[..., 3, :], last.expand_as(poses[..., 3, :]), atol=1e-6):
        raise ValueError("camera.camera_to_world: the last row must be 0 0 0 1")
    turn = poses[..., :3, :3]
    error = float((turn.mT @ turn - torch.eye(3, dtype=turn.dtype)).abs().max())
    if error > RIGID:
        raise ValueError(
            f"camera.camera_to_world: rotations are {error:.2g} from orthonormal: must be rigid "
            f"(at most {RIGID:g})"
        )
    if bool((torch.linalg.det(turn) < 0).any()):
        raise ValueError(
            "camera.camera_to_world: a left-handed rotation (determinant -1): axes must be "
            "OpenCV's, x right, y down, z forward"
        )


def check_intrinsics(intrinsics: Float[Tensor, "*b t 3 3"]) -> None:
    """Raises ValueError for another shape, numbers that are not finite, or no focal length."""
    shape = tuple(intrinsics.shape)
    if len(shape) < 3 or shape[-2:] != (3, 3) or not bool(torch.isfinite(intrinsics).all()):
        raise ValueError(f"camera.intrinsics: shape {shape}: must be (frames, 3, 3) and finite")
    focal = torch.stack((intrinsics[..., 0, 0], intrinsics[..., 1, 1]))
    if not bool((focal > 0).all()):
        raise ValueError(f"camera.intrinsics: focal length {float(focal.min()):g}: must be above 0")


def relative_poses(
    camera_to_world: Float[Tensor, "*b t 4 4"], *, path_length: float | None = None
) -> Float[Tensor, "*b t 4 4"]:
    """Poses in the axes of the first camera; fp32, computed in double precision.

    With ``path_length`` the unit of length becomes such that the camera farthest from the first one
    is that far away; a camera that only turns stays as it is (arXiv 2501.03575 normalises the scale
    of its reconstructed scenes, whose unit is arbitrary).
    """
    poses = camera_to_world.double()
    relative = torch.linalg.inv(poses[..., :1, :, :]) @ poses
    if path_length is not None:
        farthest = relative[..., :3, 3].norm(dim=-1).amax(-1)
        scale = torch.where(farthest > 1e-6, path_length / farthest.clamp(min=1e-6), 1.0)
        relative[..., :3, 3] *= scale[..., None, None]
    return relative.float()


def plucker_rays(
    intrinsics: Float[Tensor, "*b t 3 3"],
    camera_to_world: Float[Tensor, "*b t 4 4"],
    size: tuple[int, int],
) -> Float[Tensor, "*b 6 t h w"]:
    """(direction, moment) through the centres of ``size`` = (rows, columns) pixels.

    ``intrinsics`` are in pixels of that size, with the origin at the outer corner of the top left
    pixel; skew is honoured. Cameras are not checked here: see `check_poses`, `check_intrinsics`.
    """
    device = intrinsics.device
    middles = [torch.arange(n, dtype=torch.float64, device=device) + 0.5 for n in size]
    y, x = torch.meshgrid(*middles, indexing="ij")
    pixels = torch.stack((x, y, torch.ones_like(x))).flatten(1)
    local = torch.linalg.inv(intrinsics.double()) @ pixels
    poses = camera_to_world.double()
    direction = F.normalize(poses[..., :3, :3] @ local, dim=-2)
    moment = torch.linalg.cross(poses[..., :3, 3:].expand_as(direction), direction, dim=-2)
    rays = torch.cat((direction, moment), dim=-2).unflatten(-1, size)
    return rays.transpose(-4, -3).float()


def resized_intrinsics(
    intrinsics: Float[Tensor, "*b t 3 3"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "*b t 3 3"]:
    """For pictures of ``old`` = (rows, columns) that are stretched to ``new``."""
    scale = intrinsics.new_tensor([new[1] / old[1], new[0] / old[0], 1.0])
    return intrinsics * scale[:, None]


def frame_of_latents(num_latents: int, temporal: Temporal) -> list[int]:
    """The pixel frame whose camera stands for each latent frame: 0, then the middle of its group.

    The paper takes the fourth of every eight frames; in general it is the one before the middle.
    """
    ratio = temporal.ratio
    offset = max(ratio // 2 - 1, 0)
    return [0] + [1 + ratio * k + offset for k in range(num_latents - 1)]


def latent_rays(
    intrinsics: Float[Tensor, "b t 3 3"],
    camera_to_world: Float[Tensor, "b t 4 4"],
    *,
    size: tuple[int, int],
    temporal: Temporal,
    spatial_ratio: int,
    packing: str = "centre",
    path_length: float | None = None,
) -> Float[Tensor, "b k f y x"]:
    """Rays for the ``channels`` port of a network on latents.

    ``packing``: the ray through each cell's centre (6 channels), or all of its pixels' rays
    (6·ratio² channels, a pixel unshuffle). ``intrinsics`` are for pictures of ``size``.
    Raises ValueError for bad cameras, a path of another length than 1 + ratio·n, or sizes that do
    not divide.
    """
    if packing not in PACKINGS:
        raise ValueError(f"control.packing={packing}: must be one of {', '.join(PACKINGS)}")
    check_intrinsics(intrinsics)
    check_poses(camera_to_world)
    if intrinsics.shape[:2] != camera_to_world.shape[:2]:
        raise ValueError(
            f"camera: {intrinsics.shape[1]} intrinsics and {camera_to_world.shape[1]} poses: "
            "must be one of each for every frame"
        )
    rows, columns = size
    if rows % spatial_ratio or columns % spatial_ratio:
        raise ValueError(f"camera: size {rows}x{columns}: must divide by {spatial_ratio}")
    num_latents = int(temporal.latent_frames(intrinsics.shape[1]))
    frames = frame_of_latents(num_latents, temporal)
    poses = relative_poses(camera_to_world, path_length=path_length)[:, frames]
    chosen = intrinsics[:, frames]
    grid = (rows // spatial_ratio, columns // spatial_ratio)
    if packing == "centre":
        return plucker_rays(resized_intrinsics(chosen, size, grid), poses, grid)
    rays = plucker_rays(chosen, poses, size).transpose(1, 2)
    return F.pixel_unshuffle(rays, spatial_ratio).transpose(1, 2)
