"""Optical flow that gradients pass through, and the loss of its differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.extras import require

ESTIMATORS = ("lucas_kanade", "raft_small", "raft_large")
Estimator = Callable[[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]], Float[Tensor, "n 2 h w"]]

MIN_SIDE = 16  # of the coarsest level of the pyramid
WINDOW = 5  # box, applied twice, whose pixels are taken to move alike
SMOOTH = 3  # box, applied twice, that the flow goes through after each step
ITERATIONS = 3  # at each level
DAMPING = 1e-3  # mean squared gradient of a window (white minus black is 2) that counts as none
MAX_STEP = 1.0  # pixels an iteration


def build_estimator(name: str) -> Estimator:
    """One of `ESTIMATORS`. RAFT needs torchvision, and its weights are downloaded on first use."""
    return lucas_kanade if name == "lucas_kanade" else Raft(name)


def flow_loss(
    estimator: Estimator,
    reconstruction: Float[Tensor, "b 3 t h w"],
    video: Float[Tensor, "b 3 t h w"],
) -> Float[Tensor, ""]:
    """Mean absolute difference of the flows between neighbouring frames, in pixels.

    Forward and backward flow (arXiv 2501.03575, equation 3; both directions as in its release).
    Gradients flow to ``reconstruction`` only. Raises ValueError for a clip of one frame.
    """
    if video.shape[2] < 2:
        raise ValueError("flow: a clip of one frame has none")
    with torch.no_grad():
        wanted = both_flows(estimator, video)
    return (both_flows(estimator, reconstruction) - wanted).abs().mean()


def both_flows(estimator: Estimator, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "n 2 h w"]:
    """Flows of all b·(t-1) neighbours, to the next frame and then to the one before."""
    earlier = rearrange(video[:, :, :-1], "b c t h w -> (b t) c h w")
    later = rearrange(video[:, :, 1:], "b c t h w -> (b t) c h w")
    return estimator(torch.cat((earlier, later)), torch.cat((later, earlier)))


def lucas_kanade(
    first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 2 h w"]:
    """Flow (right, down) in pixels: first(p) is about second(p + flow(p)).

    The iterative pyramidal method (Bouguet 2000) at every pixel, unrolled: at each level the second
    image is warped by the flow so far, and a damped 2×2 least-squares problem over a window gives
    the rest, which is smoothed (or single pixels drift apart, the more so the more often they step:
    on a random texture moved by 0.8 pixels the mean error was 0.13 after three steps and 0.15 after
    five; smoothed, 0.09 and 0.08). Damping leaves plain areas at 0 and gradients bounded.
    """
    pyramid = [torch.cat((first, second), 1)]
    while min(pyramid[-1].shape[-2:]) >= 2 * MIN_SIDE:
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    flow = first.new_zeros(len(first), 2, *pyramid[-1].shape[-2:])
    for images in reversed(pyramid):
        rows, columns = images.shape[-2:]
        if flow.shape[-2:] != (rows, columns):
            grown = F.interpolate(flow, (rows, columns), mode="bilinear", align_corners=False)
            scale = (columns / flow.shape[-1], rows / flow.shape[-2])
            flow = grown * flow.new_tensor(scale).view(1, 2, 1, 1)
        ours, theirs = (part.mean(1, keepdim=True) for part in images.split(3, 1))
        for _ in range(ITERATIONS):
            flow = _mean(flow + _step(ours, warp(theirs, flow)), SMOOTH)
    return flow


def warp(
    images: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 h w"]
) -> Float[Tensor, "n c h w"]:
    """images(p + flow(p)), bilinear; beyond the border the nearest pixel."""
    rows, columns = images.shape[-2:]
    y = torch.arange(rows, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    x = torch.arange(columns, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    grid = torch.stack((x / max(1, columns - 1), y / max(1, rows - 1)), -1) * 2 - 1
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)


def _step(
    first: Float[Tensor, "n 1 h w"], warped: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, "n 2 h w"]:
    """The motion that is left, at most MAX_STEP in each direction."""
    around = F.pad((first + warped) / 2, (1, 1, 1, 1), mode="replicate")
    right = (around[..., 1:-1, 2:] - around[..., 1:-1, :-2]) / 2
    down = (around[..., 2:, 1:-1] - around[..., :-2, 1:-1]) / 2
    change = warped - first
    products = torch.cat(
        (right * right, down * down, right * down, right * change, down * change), 1
    )
    xx, yy, xy, xt, yt = _mean(products, WINDOW).unbind(1)
    xx, yy = xx + DAMPING, yy + DAMPING
    determinant = xx * yy - xy * xy  # at least DAMPING², by Cauchy and Schwarz
    step = torch.stack((xy * yt - yy * xt, xy * xt - xx * yt), 1) / determinant[:, None]
    return step.clamp(-MAX_STEP, MAX_STEP)


def _mean(x: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c h w"]:
    """Of a box twice, so that near pixels weigh more; pixels beyond the border do not count."""
    for _ in range(2):
        x = F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)
    return x


class Raft:
    """torchvision's RAFT at half resolution, its flow brought back to full resolution.

    So does the release of arXiv 2501.03575. Raises MissingExtraError without torchvision, and
    ValueError for sides below `SMALLEST` (RAFT's own rule, at half resolution).
    """

    SMALLEST = 256

    def __init__(self, name: str, weights: str | None = "DEFAULT") -> None:
        module = require("torchvision.models.optical_flow", extra="backbones")
        self.network: nn.Module = getattr(module, name)(weights=weights)
        self.network.eval().requires_grad_(False)

    def __call__(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, "n 2 h w"]:
        rows, columns = first.shape[-2:]
        if min(rows, columns) < self.SMALLEST:
            raise ValueError(
                f"objective.flow_estimator=raft: sides {rows}x{columns} must be at least "
                f"{self.SMALLEST}; use lucas_kanade"
            )
        size = (rows // 16 * 8, columns // 16 * 8)  # RAFT takes multiples of 8
        self.network.to(first.device)
        small = [
            F.interpolate(x, size, mode="bilinear", align_corners=False) for x in (first, second)
        ]
        flow = self.network(*small)[-1]
        grown = F.interpolate(flow, (rows, columns), mode="bilinear", align_corners=False)
        return grown * flow.new_tensor((columns / size[1], rows / size[0])).view(1, 2, 1, 1)
