"""The EDM loss with learned uncertainty (arXiv 2501.03575, equations 1-4)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

UNCERTAINTY_FEATURES = 128


def edm_weight(sigma: Float[Tensor, " b"], sigma_data: float) -> Float[Tensor, " b"]:
    """(sigma² + sigma_data²) / (sigma·sigma_data)²: makes the loss on F unweighted."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


class FourierFeatures(nn.Module):
    """√2·cos(level·freqs + phases) with frozen random frequencies; always fp32."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(count))
        self.register_buffer("phases", 2 * math.pi * torch.rand(count))

    def forward(self, level: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return math.sqrt(2) * (torch.outer(level.float(), self.freqs) + self.phases).cos()


def uncertainty_network() -> nn.Sequential:
    """u(c_noise): one log-variance a noise level; unused when sampling."""
    return nn.Sequential(
        FourierFeatures(UNCERTAINTY_FEATURES), nn.Linear(UNCERTAINTY_FEATURES, 1, bias=False)
    )


def edm_loss(
    estimate: Float[Tensor, "b z f y x"],
    clean: Float[Tensor, "b z f y x"],
    sigma: Float[Tensor, " b"],
    sigma_data: float,
    uncertainty: Float[Tensor, " b"] | None,
    given: Bool[Tensor, "b 1 f 1 1"] | None,
    padding: Bool[Tensor, "b 1 1 y x"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(loss, weighted squared error), both means over the *generated* elements only; fp32.

    loss = mean(lambda·(clean - estimate)²·exp(-u) + u). Elements of given frames, whose error is
    zero by construction, and of padding (true in ``padding``) count neither in the sum nor in the
    number. Raises ValueError when no element of the batch is generated.
    """
    error = (clean.float() - estimate.float()).square()
    counted = counted_frames(error.shape, given, padding, error.device)
    if not bool(counted.sum() > 0):
        raise ValueError(
            "condition: every frame of the batch is given or padding, so nothing is generated"
        )
    for hidden in (given, padding):
        if hidden is not None:
            error = error.masked_fill(hidden, 0.0)
    elements = error.shape[1] * error.shape[3] * error.shape[4]
    weighted = edm_weight(sigma.float(), sigma_data) * error.flatten(1).sum(dim=1) / elements
    edm = weighted.sum() / counted.sum()
    if uncertainty is None:
        return edm, edm
    u = uncertainty.float()
    return (weighted * torch.exp(-u) + u * counted).sum() / counted.sum(), edm


def counted_frames(
    shape: torch.Size,
    given: Bool[Tensor, "b 1 f 1 1"] | None,
    padding: Bool[Tensor, "b 1 1 y x"] | None,
    device: torch.device,
) -> Float[Tensor, " b"]:
    """How many frames of a sample are generated; one of which half is padding counts half."""
    frames = torch.full((shape[0],), float(shape[2]), device=device)
    if given is not None:
        frames = (~given).flatten(1).sum(dim=1).float()
    return frames if padding is None else frames * (~padding).flatten(1).float().mean(dim=1)


def padding_of_latents(
    padding_mask: Float[Tensor, "b 1 h w"], size: tuple[int, int]
) -> Bool[Tensor, "b 1 1 y x"]:
    """Which latents are padding, as the network sees its mask (nearest; reference code 2.2)."""
    return F.interpolate(padding_mask.float(), size=size, mode="nearest")[:, :, None] > 0.5
