"""The flow estimator on known motion, its gradients, and the loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from openwfm.extras import MissingExtraError
from openwfm.tokenizer.flow import Raft, flow_loss, lucas_kanade, warp

SIDE = 48


def scene(x: Tensor, y: Tensor) -> Tensor:
    """A smooth texture that has a value at every real place."""
    waves = [(0.31, 0.12, 0.0), (-0.17, 0.29, 1.0), (0.09, -0.38, 2.0), (0.45, 0.4, 0.5)]
    values = [torch.sin(a * x + b * y + c) for a, b, c in waves]
    return torch.stack((sum(values) / 4, sum(values[:2]) / 2, sum(values[2:]) / 2))  # type: ignore[arg-type]


def grid() -> tuple[Tensor, Tensor]:
    line = torch.arange(SIDE, dtype=torch.float32)
    return line[None, :].expand(SIDE, SIDE), line[:, None].expand(SIDE, SIDE)


def pair(flow_x: Tensor, flow_y: Tensor) -> tuple[Tensor, Tensor]:
    """Two images of which the second(p + flow) is the first(p), for flows that are affine."""
    x, y = grid()
    return scene(x, y)[None], scene(x - flow_x, y - flow_y)[None]


def inner(flow: Tensor) -> Tensor:
    return flow[..., 6:-6, 6:-6]


@pytest.mark.parametrize("motion", [(0.0, 0.0), (0.4, -0.7), (2.3, 1.1), (-4.0, 3.5), (5.5, -5.5)])
def test_known_shifts_are_found(motion: tuple[float, float]) -> None:
    right, down = (torch.full((SIDE, SIDE), value) for value in motion)
    flow = lucas_kanade(*pair(right, down))
    error = inner(flow - torch.tensor(motion).view(1, 2, 1, 1)).norm(dim=1).mean()
    assert error < 1e-5 + 0.1 * math.hypot(*motion), error


def test_a_turn_is_found() -> None:
    x, y = grid()
    centre, angle = (SIDE - 1) / 2, 0.06
    back_x = math.cos(angle) * (x - centre) + math.sin(angle) * (y - centre) + centre
    back_y = -math.sin(angle) * (x - centre) + math.cos(angle) * (y - centre) + centre
    flow = lucas_kanade(scene(x, y)[None], scene(back_x, back_y)[None])
    true_x = (math.cos(angle) - 1) * (x - centre) - math.sin(angle) * (y - centre)
    true_y = math.sin(angle) * (x - centre) + (math.cos(angle) - 1) * (y - centre)
    assert inner(flow[0] - torch.stack((true_x, true_y))).abs().mean() < 0.06


def test_plain_images_have_no_flow() -> None:
    plain = torch.full((2, 3, 16, 20), 0.3)
    assert lucas_kanade(plain, plain).eq(0).all()
    assert lucas_kanade(plain, plain + 0.2).abs().max() < 1e-5


def test_warp_by_whole_pixels_is_a_shift() -> None:
    images = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    flow = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(2, 2, 9, 7)
    torch.testing.assert_close(warp(images, flow)[:, :, 1:, :-2], images[:, :, :-1, 2:])


def test_gradients_equal_finite_differences() -> None:
    shift = torch.full((SIDE, SIDE), 0.5)
    first, second = (image[..., :16, :18].double() for image in pair(shift, -shift))
    direction = torch.rand(first.shape, generator=torch.Generator().manual_seed(1)).double() - 0.5

    def value(step: float) -> Tensor:
        return lucas_kanade(first, second + step * direction).square().mean()

    point = second.clone().requires_grad_()
    lucas_kanade(first, point).square().mean().backward()
    assert point.grad is not None
    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close((point.grad * direction).sum(), slope, rtol=1e-3, atol=1e-7)


def clip(speed: float) -> Tensor:
    x, y = grid()
    return torch.stack([scene(x - speed * t, y) for t in range(4)], 1)[None]


def test_the_loss_sees_motion_and_not_brightness() -> None:
    video = clip(1.0)
    assert flow_loss(lucas_kanade, video, video) == 0
    slower, faster = (flow_loss(lucas_kanade, clip(speed), video) for speed in (0.8, 0.4))
    assert 0 < slower < faster
    frozen = video[:, :, :1].expand_as(video)
    # Half of the two components is the motion, 1 pixel, that is missing.
    assert 0.35 < flow_loss(lucas_kanade, frozen, video) < 0.6
    assert flow_loss(lucas_kanade, video + 0.1, video) < 0.1 * slower


def test_the_loss_can_be_descended() -> None:
    video = clip(1.0)
    made = clip(0.6).requires_grad_()
    optimizer = torch.optim.Adam([made], lr=5e-3)
    losses = []
    for _ in range(12):
        loss = flow_loss(lucas_kanade, made, video)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses


def test_one_frame_has_no_flow() -> None:
    image = torch.zeros(1, 3, 1, 16, 16)
    with pytest.raises(ValueError, match="a clip of one frame has none"):
        flow_loss(lucas_kanade, image, image)


def test_raft_comes_from_torchvision() -> None:
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(MissingExtraError, match="torchvision"):
            Raft("raft_small")
        return
    raft = Raft("raft_small", weights=None)
    with pytest.raises(ValueError, match="64x64 must be at least 256; use lucas_kanade"):
        raft(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    first = torch.rand(1, 3, 256, 270).requires_grad_()
    flow = raft(first, torch.rand(1, 3, 256, 270))
    assert flow.shape == (1, 2, 256, 270)
    flow.mean().backward()
    assert first.grad is not None and first.grad.abs().sum() > 0
