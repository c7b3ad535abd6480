"""diffusers' schedulers behind our ``denoise``, on problems whose solution is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.sampler import sample
from openwfm.diffusion.schedulers import run_scheduler

diffusers = pytest.importorskip("diffusers")
STD = 0.5


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    return x * (STD**2 / (STD**2 + sigma**2))


def test_edm_euler_is_our_euler_up_to_the_last_level() -> None:
    """Theirs starts from sqrt(sigma_max² + 1) and repeats the last level."""
    noise = torch.randn(2, 3, 2, 2, 2)
    config = SamplerConfig(num_steps=20, guidance=0.0, grid="repeat_last")
    theirs = SamplerConfig(
        kind="diffusers", scheduler="EDMEulerScheduler", num_steps=20, guidance=0.0
    )
    start = noise * (80**2 + 1) ** 0.5 / 80
    wanted = sample(gaussian, start, config)
    assert torch.allclose(sample(gaussian, noise, theirs), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_order(kind: str) -> None:
    """Both end at sigma_min, EDM's Euler with its noise and the multistep one at zero."""
    noise = torch.tensor([1.0, -0.4, 2.0]).view(1, 3, 1, 1, 1)
    errors = []
    for steps in (20, 40, 80):
        config = SamplerConfig(kind="diffusers", scheduler=kind, num_steps=steps, sigma_min=0.01)
        found = sample(gaussian, noise, config)
        end = 0.01 if kind == "EDMEulerScheduler" else 0.0
        exact = noise * (80**2 + 1) ** 0.5 * ((STD**2 + end**2) / (STD**2 + 80**2)) ** 0.5
        errors.append(float((found - exact).abs().max()))
    order = 1 if kind == "EDMEulerScheduler" else 2
    assert errors[0] / errors[2] > 0.7 * 4**order or errors[2] < 2e-4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "kind, options",
    [
        ("EulerDiscreteScheduler", {}),
        ("HeunDiscreteScheduler", {}),
        ("LMSDiscreteScheduler", {}),
        ("DPMSolverMultistepScheduler", {}),
        ("UniPCMultistepScheduler", {}),
        ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    ],
)
def test_other_families_reach_the_gaussian(
    kind: str, options: dict[str, Any], prediction: str
) -> None:
    """Their betas end at sigma 14.6, so a start of unit noise carries what the data would add."""
    if prediction == "sample" and kind in ("HeunDiscreteScheduler",):
        pytest.skip("this class takes no x0")
    scheduler = getattr(diffusers, kind)(prediction_type=prediction, **options)
    noise = torch.randn(4, 3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    found = run_scheduler(gaussian, noise, scheduler, 60)
    assert float((found - STD * noise).abs().max()) < 0.06 * float(STD * noise.abs().max())


def test_others_are_refused() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="scheduler=FlowMatchEulerDiscreteScheduler"):
        run_scheduler(gaussian, torch.randn(1, 1, 1, 1, 1), scheduler, 4)
