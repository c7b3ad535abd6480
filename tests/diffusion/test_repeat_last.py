"""The last given frame, shown to every frame after it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.diffusion import DiffusionWorldModel
from openwfm.diffusion.conditioner import GivenFrames
from openwfm.diffusion.config import ConditionerConfig, EdmConfig
from openwfm.randomness import torch_generator
from tests.diffusion.test_model import CONDITIONER, FPS, NET, SAMPLER, SHAPE, build, generate, text

REPEATING = replace(CONDITIONER, repeat_last=True)
WIDER = replace(NET, extra_channels=NET.in_channels)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_it_is_that_frame_and_nothing_else(counts: list[int], seed: int) -> None:
    total = 5
    shape = (len(counts), 3, total, 2, 2)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    frames = torch.arange(total)[None] < torch.tensor(counts)[:, None]
    condition = GivenFrames(
        frames=frames[:, None, :, None, None],
        clean=latents,
        noised=latents,
        sigma=torch.zeros(len(counts)),
    )
    out = condition.last_of(latents)
    for row, count in enumerate(counts):
        assert not out[row, :, :count].any()
        for frame in range(count, total):
            expected = latents[row, :, count - 1] if count else torch.zeros(3, 2, 2)
            assert torch.equal(out[row, :, frame], expected)


def test_a_future_frame_sees_it_without_attention() -> None:
    """With attention and MLP closed, only the channels can bring it into the later frames."""
    model = build(WIDER, REPEATING)
    with torch.no_grad():
        for name, parameter in model.net.named_parameters():
            if "modulations" in name:
                parameter.zero_()  # every gate is then the shared modulation alone
        for parameter in model.net.level.linear_2.parameters():
            parameter.zero_()
    one = torch.zeros(2, 4, 2, 4, 4)
    other = one.clone()
    other[:, :, 1, 0, 0] += 3
    outputs = [generate(model, condition=x)[:, :, 2] for x in (one, other)]
    changed = (outputs[0] - outputs[1]).abs().amax(dim=(0, 1)) > 1e-6
    assert changed[:2, :2].any() and not changed[2:].any() and not changed[:, 2:].any()
    plain = build()
    with torch.no_grad():
        for name, parameter in plain.net.named_parameters():
            if "modulations" in name or name.startswith("level.linear_2"):
                parameter.zero_()
    outputs = [generate(plain, condition=x)[:, :, 2] for x in (one, other)]
    assert torch.equal(*outputs)


def test_training_and_text_only_samples_work() -> None:
    model = build(WIDER, replace(REPEATING, min_frames=0))
    draws = model.draw(SHAPE, torch_generator(0, "test"))
    loss, _ = model.loss(torch.randn(SHAPE), draws, text=text(), fps=FPS)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert generate(model, condition=None, size=(4, 4)).isfinite().all()


def test_what_does_not_fit_is_named() -> None:
    for net, conditioner in ((NET, REPEATING), (WIDER, CONDITIONER)):
        with pytest.raises(ValueError, match=r"net\.extra_channels=.*conditioner\.repeat_last="):
            DiffusionWorldModel(
                net=net, objective=EdmConfig(), conditioner=conditioner, sampler=SAMPLER
            )
    with pytest.raises(ValueError, match=r"conditioner\.repeat_last=True: needs"):
        ConditionerConfig(repeat_last=True)
