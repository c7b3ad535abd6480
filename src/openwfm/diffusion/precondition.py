"""From the raw network F to a denoiser: EDM preconditioning, with given frames kept exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.diffusion.conditioner import Condition
from openwfm.diffusion.dit import DiT

if TYPE_CHECKING:
    from openwfm.diffusion.runtime import Runtime

# denoise(x, sigma) -> x0; sigma holds one level for the batch, or one a sample.
Denoise = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Coefficients:
    """EDM, arXiv 2206.00364, table 1, shaped to broadcast over ``b z f y x``; fp32."""

    skip: Tensor
    out: Tensor
    input: Tensor

    @classmethod
    def at(cls, sigma: Float[Tensor, "#b"], sigma_data: float) -> Coefficients:
        level = sigma.float().view(-1, 1, 1, 1, 1)
        total = level.square() + sigma_data**2
        return cls(sigma_data**2 / total, level * sigma_data / total.sqrt(), total.rsqrt())


def c_noise(sigma: Float[Tensor, "#b"]) -> Float[Tensor, "#b"]:
    """The noise level as the network sees it."""
    return sigma.float().log() / 4


def denoise(
    net: DiT | Runtime,
    noisy: Float[Tensor, "b z f y x"],
    sigma: Float[Tensor, "#b"],
    condition: Condition,
    sigma_data: float,
) -> Float[Tensor, "b z f y x"]:
    """Estimate of x0. Given frames enter scaled for *their* noise level, and leave as they are.

    The released code converts given frames to F-space with a wrong inverse, which scales them by
    1.59; replacing x0 needs no inverse.
    """
    at = Coefficients.at(sigma, sigma_data)
    given = condition.given
    scaled = at.input * noisy
    mask, channels = None, [] if condition.ports.channels is None else [condition.ports.channels]
    if given is not None:
        entered = Coefficients.at(given.sigma, sigma_data).input * given.noised
        scaled = torch.where(given.frames, entered, scaled)
        if condition.repeat_last:
            channels.insert(0, given.last_of(entered))
        mask = given.frames.to(noisy.dtype).expand(-1, -1, -1, *noisy.shape[3:])
    elif net.config.condition_mask:
        mask = noisy.new_zeros(1, 1, *noisy.shape[2:])
        if condition.repeat_last:
            channels.insert(0, torch.zeros_like(noisy))
    raw: Tensor = net(
        scaled,
        c_noise(sigma),
        text=cast(Any, condition.text),  # of the kind that this network makes
        null_tokens=condition.null_tokens,
        fps=condition.fps,
        padding_mask=condition.padding_mask,
        condition_mask=mask,
        channels=torch.cat(channels, dim=1) if channels else None,
        modulation=condition.ports.modulation,
        codes=condition.codes,
    )
    clean = at.skip * noisy + at.out * raw.float()
    return clean if given is None else torch.where(given.frames, given.clean, clean)
