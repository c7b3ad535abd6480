"""The discriminator and the formulas of adversarial training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from openwfm.tokenizer.adversarial import (
    balanced_gradient,
    gradient_penalty,
    hinge_loss,
    relativistic_loss,
)
from openwfm.tokenizer.discriminator import AdversarialConfig, Discriminator

CONF = Path(__file__).parents[2] / "conf" / "model" / "discriminator"
SMALL = AdversarialConfig(channels=4)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_yaml_names_every_default() -> None:
    values = yaml.safe_load((CONF / "patch.yaml").read_text())
    assert values.pop("_target_") == "openwfm.tokenizer.discriminator.AdversarialConfig"
    assert set(values) == set(AdversarialConfig.__dataclass_fields__)
    assert AdversarialConfig(**values) == AdversarialConfig()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"channels": 0}, "channels=0: must be at least 1"),
        ({"num_temporal": 4}, "num_temporal=4: must be at most num_levels=3"),
        ({"normalization": "batch"}, "normalization=batch: must be one of spectral, none"),
        ({"weight": float("nan")}, "weight=nan: must be at least 0"),
        ({"gradient_clip": 0.0}, "gradient_clip=0.0: must be positive"),
        ({"betas": (0.5, 1.0)}, r"betas=\(0.5, 1.0\): must be two numbers"),
        ({"r1": -1.0}, "r1=-1.0: must be at least 0"),
        ({"r2": -1.0}, "r2=-1.0: must be at least 0"),
        ({"loss": "wasserstein"}, "loss=wasserstein: must be one of hinge, relativistic"),
    ],
)
def test_bad_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"discriminator\\.{message}"):
        AdversarialConfig(**values)


@pytest.mark.parametrize("frames, out", [(1, 1), (2, 1), (5, 2), (17, 5)])
def test_one_logit_a_patch_for_clips_of_any_length(frames: int, out: int) -> None:
    assert Discriminator(SMALL)(noise(2, 3, frames, 24, 40)).shape == (2, out, 3, 5)


def test_an_image_is_judged_as_a_clip_that_stands_still() -> None:
    net = Discriminator(SMALL).eval()
    image = noise(2, 3, 1, 16, 16)
    still = net(image.expand(-1, -1, 9, -1, -1))
    torch.testing.assert_close(still, net(image).expand_as(still))


def test_time_matters() -> None:
    net = Discriminator(SMALL).eval()
    video = noise(1, 3, 9, 16, 16)
    assert not torch.allclose(net(video), net(video[:, :, torch.randperm(9)]))


def test_sides_too_small_are_named() -> None:
    with pytest.raises(ValueError, match="sides 4x16 must be at least 8"):
        Discriminator(SMALL)(noise(1, 3, 1, 4, 16))


def test_spectral_norms_go_to_one() -> None:
    net = Discriminator(SMALL)
    for _ in range(30):
        net(noise(1, 3, 1, 8, 8))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    for layer in convolutions:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        assert float(largest.detach()) == pytest.approx(1, abs=0.05)


def test_hinge_loss_closed_form() -> None:
    assert hinge_loss(torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])) == 0.5 + 1.0
    assert hinge_loss(torch.full((3,), 1.0), torch.full((2,), -1.0)) == 0


def test_relativistic_loss_sees_differences_only() -> None:
    """log 2 where nothing differs; -log σ(d) where ``better`` is d above; constants cancel."""
    real, made = noise(3, 4, 2), noise(3, 4, 2, seed=1)
    assert float(relativistic_loss(real, real)) == pytest.approx(math.log(2))
    assert float(relativistic_loss(made + 3, made)) == pytest.approx(math.log(1 + math.exp(-3)))
    wanted = -torch.sigmoid(real - made).log().mean()
    torch.testing.assert_close(relativistic_loss(real, made), wanted)
    torch.testing.assert_close(relativistic_loss(real + 7, made + 7), wanted)
    shuffled = relativistic_loss(real, made.flip(0))
    assert not torch.allclose(shuffled, wanted), "pairs count"


def test_gradient_penalty_of_a_linear_function() -> None:
    """f(x) = Σ w·x has the gradient w everywhere: the penalty is |w|²/2."""
    w, video = noise(3, 2, 4, 4), noise(5, 3, 2, 4, 4, seed=1)
    penalty = gradient_penalty(lambda x: (x * w).sum((1, 2, 3, 4)), video)
    torch.testing.assert_close(penalty, w.square().sum() / 2)


@pytest.mark.parametrize("normalization", ["spectral", "none"])
def test_gradient_penalty_trains_the_discriminator(normalization: str) -> None:
    net = Discriminator(AdversarialConfig(channels=4, normalization=normalization))
    gradient_penalty(net, noise(2, 3, 5, 16, 16)).backward()
    assert all(p.grad is not None for p in net.levels.parameters() if p.ndim > 1)


@pytest.mark.parametrize("weight", [0.05, 1.0])
def test_balanced_norms_at_the_last_layer(weight: float) -> None:
    """Against gradients of the two losses taken directly."""
    body, last = nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(4, 3, 1)
    output = last(body(noise(2, 3, 3, 8, 8)).relu())
    mine, theirs = output.abs().mean(), (output**3).sum()
    wanted = [torch.autograd.grad(x, last.parameters(), retain_graph=True) for x in (mine, theirs)]
    norms = [torch.cat([g.flatten() for g in part]).norm() for part in wanted]
    parts = [torch.autograd.grad(x, output, retain_graph=True)[0] for x in (mine, theirs)]
    total, factor = balanced_gradient(
        output, *parts, list(last.parameters()), weight=weight, max_factor=1e9
    )
    torch.testing.assert_close(factor * norms[1], weight * norms[0])
    output.backward(total, retain_graph=True)
    direct = torch.autograd.grad(mine + factor.detach() * theirs, body.weight)[0]
    torch.testing.assert_close(body.weight.grad, direct, rtol=1e-4, atol=1e-6)


def test_the_factor_is_clamped() -> None:
    weight = torch.ones(1, requires_grad=True)
    output = weight * torch.ones(1, 1, 1, 1, 1)
    others, tiny = torch.ones_like(output), torch.full_like(output, 1e-9)
    _, factor = balanced_gradient(output, others, tiny, [weight], weight=1.0, max_factor=50.0)
    assert factor == 50
    _, factor = balanced_gradient(output, others, tiny * 0, [weight], weight=1.0, max_factor=50.0)
    assert factor == 50
