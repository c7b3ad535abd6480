"""Losses and weights of adversarial fine-tuning: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def hinge_loss(real: Float[Tensor, "*n"], made: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """What a discriminator minimises (arXiv 1705.02894): logits of real above 1, made below -1."""
    return F.relu(1 - real).mean() + F.relu(1 + made).mean()


def relativistic_loss(better: Float[Tensor, "*n"], worse: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Paired logistic loss (arXiv 1807.00734): each of ``better`` above its like in ``worse``.

    The discriminator minimises it of (real, made), the tokenizer of (made, real). A reconstruction
    and its original are a pair, place by place, so what they share cancels.
    """
    return F.softplus(worse - better).mean()


def gradient_penalty(
    discriminate: Callable[[Tensor], Tensor], video: Float[Tensor, "b c t h w"]
) -> Float[Tensor, ""]:
    """R1 (arXiv 1801.04406, equation 9) without its γ: half the squared gradient a clip.

    The gradient is that of the sum of a clip's logits. Of made clips it is R2.
    """
    inputs = video.detach().requires_grad_()
    logits = discriminate(inputs)
    (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return gradient.square().sum((1, 2, 3, 4)).mean() / 2


def balanced_gradient(
    output: Float[Tensor, "b c t h w"],
    others: Float[Tensor, "b c t h w"],
    adversarial: Float[Tensor, "b c t h w"],
    last_layer: Sequence[Tensor],
    *,
    weight: float,
    max_factor: float,
) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, ""]]:
    """The sum of two gradients with respect to ``output``, and the factor before the second.

    The factor makes the adversarial gradient's norm at the parameters ``last_layer`` ``weight``
    times that of the others (arXiv 2012.09841, equation 7), up to ``max_factor``. Taken at the
    output, so that neither the losses nor the rest of the network are run through twice.
    """
    ours, theirs = (
        torch.stack(
            [
                part.norm()
                for part in torch.autograd.grad(output, last_layer, gradient, retain_graph=True)
            ]
        ).norm()
        for gradient in (others, adversarial)
    )
    factor = (weight * ours / theirs.clamp_min(1e-12)).clamp(max=max_factor)
    return others + factor * adversarial, factor
