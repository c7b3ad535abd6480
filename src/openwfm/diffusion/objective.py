"""The EDM loss with learned uncertainty (arXiv 2501.03575, equations 1-4)."""

from __future__ import annotations

import math

import torch
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
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(loss, weighted squared error), both means over the *generated* elements only; fp32.

    loss = mean(lambda·(clean - estimate)²·exp(-u) + u). Elements of given frames, whose error is
    zero by construction, count neither in the sum nor in the number.
    Raises ValueError when every frame of the batch is given.
    """
    error = (clean.float() - estimate.float()).square()
    if given is None:
        frames = torch.full((len(error),), float(error.shape[2]), device=error.device)
    else:
        error = error.masked_fill(given, 0.0)
        frames = (~given).flatten(1).sum(dim=1).float()
    if not bool(frames.sum() > 0):
        raise ValueError("condition: every frame of the batch is given, so nothing is generated")
    elements = error.shape[1] * error.shape[3] * error.shape[4]
    weighted = edm_weight(sigma.float(), sigma_data) * error.flatten(1).sum(dim=1) / elements
    edm = weighted.sum() / frames.sum()
    if uncertainty is None:
        return edm, edm
    u = uncertainty.float()
    return (weighted * torch.exp(-u) + u * frames).sum() / frames.sum(), edm
