"""Plücker rays against geometry worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from openwfm.posttraining.camera_path import joystick, pinhole
from openwfm.posttraining.rays import (
    check_intrinsics,
    check_poses,
    frame_of_latents,
    latent_rays,
    plucker_rays,
    relative_poses,
    resized_intrinsics,
)
from openwfm.shapes import Temporal

SIZE = (24, 40)


def poses(seed: int, count: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator))
    turn = turn * torch.linalg.det(turn).sign()[:, None, None]
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, :3] = turn
    pose[:, :3, 3] = torch.randn(count, 3, generator=generator)
    return pose


def matrices(count: int = 9) -> Tensor:
    return pinhole(SIZE, 50.0).expand(count, -1, -1)


@pytest.mark.parametrize("seed", range(4))
def test_a_point_lies_on_the_ray_of_the_pixel_that_shows_it(seed: int) -> None:
    pose, matrix = poses(seed, 1), matrices(1)
    rays = plucker_rays(matrix, pose, SIZE)[:, 0]
    direction, moment = rays[:3], rays[3:]
    assert torch.allclose(direction.norm(dim=0), torch.ones(SIZE), atol=1e-6)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        row = int(torch.randint(SIZE[0], (), generator=generator))
        column = int(torch.randint(SIZE[1], (), generator=generator))
        depth = 0.5 + 5 * float(torch.rand((), generator=generator))
        pixel = torch.tensor([column + 0.5, row + 0.5, 1.0])
        local = depth * torch.linalg.inv(matrix[0]) @ pixel
        point = pose[0, :3, :3] @ local + pose[0, :3, 3]
        # On the line: point × d equals the moment.
        d = direction[:, row, column]
        assert torch.allclose(torch.linalg.cross(point, d), moment[:, row, column], atol=1e-4)
        assert float((point - pose[0, :3, 3]) @ d) > 0


def test_rays_of_the_first_frame_start_at_the_origin_whatever_the_world_axes() -> None:
    path = poses(1)
    moved = poses(2, 1) @ path  # the same path in another world
    for each in (path, moved):
        rays = plucker_rays(matrices(), relative_poses(each), SIZE)
        assert torch.allclose(rays[3:, 0], torch.zeros(3, *SIZE), atol=1e-6)
    first, second = (relative_poses(each) for each in (path, moved))
    assert torch.allclose(first, second, atol=1e-4)


def test_the_scale_of_a_path_is_taken_out_and_pure_turns_stay() -> None:
    path = joystick("forward*4 left*4")
    doubled = path.clone()
    doubled[:, :3, 3] *= 7.0
    one, two = (relative_poses(each, path_length=1.0) for each in (path, doubled))
    assert torch.allclose(one, two, atol=1e-6)
    assert float(one[:, :3, 3].norm(dim=1).max()) == pytest.approx(1.0)
    turning = joystick("turn_left*8")
    assert torch.equal(relative_poses(turning, path_length=1.0), relative_poses(turning))


def test_resizing_a_picture_keeps_its_rays() -> None:
    """A cell's centre is the corner between its middle pixels: the mean of their rays, nearly."""
    grid = (3, 5)
    path, matrix = poses(3, 1), matrices(1)
    fine = plucker_rays(matrix, path, SIZE)[:3, 0]
    coarse = plucker_rays(resized_intrinsics(matrix, SIZE, grid), path, grid)[:3, 0]
    middle = torch.stack([fine[:, 3 + dy :: 8, 3 + dx :: 8] for dy in (0, 1) for dx in (0, 1)])
    mean = torch.nn.functional.normalize(middle.mean(0), dim=0)
    assert torch.allclose(coarse, mean, atol=5e-4)  # second order in the width of a pixel


@pytest.mark.parametrize(("ratio", "wanted"), [(8, [0, 4, 12, 20]), (4, [0, 2, 6, 10])])
def test_the_fourth_of_eight_frames_stands_for_a_latent_frame(
    ratio: int, wanted: list[int]
) -> None:
    assert frame_of_latents(4, Temporal(ratio=ratio)) == wanted


@pytest.mark.parametrize("packing", ["centre", "unshuffle"])
def test_latent_rays_have_the_shape_of_the_latents(packing: str) -> None:
    rays = latent_rays(
        matrices(17)[None].expand(2, -1, -1, -1),
        joystick("forward*16")[None].expand(2, -1, -1, -1),
        size=SIZE,
        temporal=Temporal(),
        spatial_ratio=8,
        packing=packing,
        path_length=1.0,
    )
    assert rays.shape == (2, 6 if packing == "centre" else 384, 3, 3, 5)
    if packing == "unshuffle":  # channel-major: the 64 offsets of direction x come first
        whole = plucker_rays(
            matrices(17), relative_poses(joystick("forward*16"), path_length=1.0), SIZE
        )
        assert torch.allclose(rays[0, :64, 1, 0, 0].view(8, 8), whole[0, 4, :8, :8])


def test_bad_cameras_are_named() -> None:
    mirrored = torch.eye(4).repeat(2, 1, 1)
    mirrored[1, 0, 0] = -1
    with pytest.raises(ValueError, match="left-handed"):
        check_poses(mirrored)
    stretched = torch.eye(4).repeat(2, 1, 1)
    stretched[0, 0, 0] = 1.1
    with pytest.raises(ValueError, match="orthonormal"):
        check_poses(stretched)
    with pytest.raises(ValueError, match="finite"):
        check_poses(torch.full((2, 4, 4), math.nan))
    with pytest.raises(ValueError, match="last row"):
        check_poses(torch.ones(2, 4, 4))
    with pytest.raises(ValueError, match="focal length -1"):
        check_intrinsics(torch.diag(torch.tensor([1.0, -1.0, 1.0]))[None])
    with pytest.raises(ValueError, match="16 intrinsics and 17 poses"):
        latent_rays(
            matrices(16)[None],
            joystick("forward*16")[None],
            size=SIZE,
            temporal=Temporal(),
            spatial_ratio=8,
        )
    with pytest.raises(ValueError, match=r"must be 1 \+ 8"):
        latent_rays(
            matrices(16)[None],
            joystick("forward*15")[None],
            size=SIZE,
            temporal=Temporal(),
            spatial_ratio=8,
        )
