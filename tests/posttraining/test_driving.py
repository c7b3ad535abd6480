"""Worlds of several views and a trajectory: where they start from, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.control import Controls
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.diffusion.precondition import denoise
from openwfm.diffusion.stages import start_from
from openwfm.diffusion.views import fold_views, unfold_views
from openwfm.posttraining.driving import TrajectoryConfig, checked_trajectory
from openwfm.weights import plain, save_weights

VIEWS, FRAMES, FPS = 6, 3, torch.tensor([10.0, 10.0])
SINGLE = DiTConfig(
    in_channels=4, out_channels=4, extra_channels=4, width=32, num_blocks=2, num_heads=2,
    adaln_rank=8, text_width=12, padding_mask=False, rope_scale=(1.0, 1.0, 1.0),
    max_size=(8, 16, 16),
)  # fmt: skip
SIX = replace(SINGLE, num_views=VIEWS, view_channels=3)
CONDITIONER = ConditionerConfig(
    text_width=12, text_tokens=8, min_frames=1, max_frames=1, repeat_last=True
)


def model(net: DiTConfig, *, trajectory: bool = False) -> DiffusionWorldModel:
    torch.manual_seed(0)
    made = DiffusionWorldModel(
        net=net, objective=EdmConfig(), conditioner=CONDITIONER,
        sampler=SamplerConfig(num_steps=2, guidance=0.0),
        control=TrajectoryConfig(hidden=8).build(net.width) if trajectory else None,
    )  # fmt: skip
    made.set_latent_statistics(torch.zeros(4, 2), torch.ones(4, 2))
    return made.eval()


def randomise(net: torch.nn.Module) -> None:
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[DiffusionWorldModel, Path]:
    """A world of one view, and its published folder."""
    world, folder = model(SINGLE), tmp_path_factory.mktemp("base")
    randomise(world.net)
    save_weights(folder, plain(world.export_config()), world.state_dict())
    return world, folder


def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    text = torch.zeros(2, VIEWS, 8, 12)
    text[:, :, :5] = torch.randn(2, VIEWS, 5, 12)
    path = torch.zeros(2, 64, 3)
    path[..., 0] = torch.arange(1, 65) * 0.8
    return torch.randn(2, 4, VIEWS * FRAMES, 4, 6), text, path


def estimate(world: DiffusionWorldModel, path: Tensor | None, text: Tensor) -> Tensor:
    latents, _, _ = batch()
    torch.manual_seed(2)
    noise, x = torch.randn_like(latents), torch.randn_like(latents)
    given = unfold_views(fold_views(latents, VIEWS)[:, :, :1], VIEWS)
    condition = world.conditioner.sampling(given, noise, 0.1, text=text, fps=FPS)
    controls = None if path is None else Controls(trajectory=path)
    condition = replace(condition, ports=world.ports(controls, latents.shape))
    return denoise(world.net, x, torch.tensor([0.7, 2.0]), condition, 0.5).detach()


def test_six_separate_views_are_the_single_view_world_bit_for_bit(
    base: tuple[DiffusionWorldModel, Path],
) -> None:
    """At step 0, each with its own text; the trajectory changes nothing yet."""
    single, folder = base
    world = model(replace(SIX, joint_views=False), trajectory=True)
    start_from(world, folder, resize=False)
    latents, text, path = batch()
    made = estimate(world, path, text)
    torch.manual_seed(2)
    noise, x = torch.randn_like(latents), torch.randn_like(latents)
    for view in range(VIEWS):
        at = slice(FRAMES * view, FRAMES * (view + 1))
        condition = single.conditioner.sampling(
            latents[:, :, at][:, :, :1], noise[:, :, at], 0.1, text=text[:, view], fps=FPS
        )
        own = denoise(single.net, x[:, :, at], torch.tensor([0.7, 2.0]), condition, 0.5)
        assert torch.equal(made[:, :, at], own)


def test_a_trajectory_starts_without_effect_and_then_has_one(
    base: tuple[DiffusionWorldModel, Path],
) -> None:
    plain_world, world = model(SIX), model(SIX, trajectory=True)
    for each in (plain_world, world):
        start_from(each, base[1], resize=False)
    plain_world.net.load_state_dict(world.net.state_dict())
    _, text, path = batch()
    assert torch.equal(estimate(plain_world, None, text), estimate(world, path, text))
    assert world.control is not None
    randomise(world.control)
    assert not torch.allclose(estimate(world, path, text), estimate(world, path * 0.5, text))


def test_what_the_text_of_a_view_may_change(base: tuple[DiffusionWorldModel, Path]) -> None:
    _, text, path = batch()
    other = text.clone()
    other[:, 2] += 1.0
    for joint in (False, True):
        world = model(replace(SIX, joint_views=joint), trajectory=True)
        start_from(world, base[1], resize=False)
        gap = estimate(world, path, other) - estimate(world, path, text)
        changed = fold_views(gap, VIEWS).unflatten(0, (2, VIEWS)).abs().amax((0, 2, 3, 4, 5))
        assert changed[2] > 0
        others = torch.cat((changed[:2], changed[3:]))
        assert float(others.min()) > 1e-3 if joint else float(others.max()) < 1e-5


def test_guidance_of_the_trajectory_alone(base: tuple[DiffusionWorldModel, Path]) -> None:
    """out + g·(out - out without it); without weights in the control it changes nothing."""
    world = model(SIX, trajectory=True)
    randomise(world.net)
    latents, text, path = batch()
    given = unfold_views(fold_views(latents, VIEWS)[:, :, :1], VIEWS)

    def made(guidance: float) -> Tensor:
        return world.generate_latents(
            condition=given, num_latent_frames=FRAMES, text=text, fps=FPS, seed=0,
            sampler=replace(world.sampler, control_guidance=guidance),
            controls=Controls(trajectory=path),
        )  # fmt: skip

    assert torch.allclose(made(0.0), made(2.0), atol=1e-4)
    assert world.control is not None
    randomise(world.control)
    assert not torch.allclose(made(0.0), made(2.0), atol=1e-3)
    kept = fold_views(made(2.0), VIEWS)[:, :, :1]
    assert torch.allclose(kept, fold_views(given, VIEWS), atol=1e-5)
    bare = model(SIX)
    with pytest.raises(ValueError, match="control_guidance=1"):
        bare.generate_latents(
            condition=given, num_latent_frames=FRAMES, text=text, fps=FPS, seed=0,
            sampler=replace(bare.sampler, control_guidance=1.0),
        )  # fmt: skip


def test_training_reaches_the_trajectory_and_counts_each_view(
    base: tuple[DiffusionWorldModel, Path],
) -> None:
    world = model(SIX, trajectory=True)
    start_from(world, base[1], resize=False)
    latents, text, path = batch()
    draws = world.draw(latents.shape, torch.Generator().manual_seed(0))
    draws = replace(draws, keep_control=torch.ones(2, dtype=torch.bool))
    loss, _ = world.loss(latents, draws, text=text, fps=FPS, controls=Controls(trajectory=path))
    loss.backward()
    assert world.control is not None and world.net.views is not None
    assert float(world.control.embedding[-1].weight.grad.abs().max()) > 0
    grad = world.net.patch_in.weight.grad
    assert grad is not None and float(grad[:, -12:].abs().max()) > 0  # columns of the view
    condition = world.conditioner.training(
        latents, draws.condition, text=text, fps=FPS, padding_mask=None
    )
    assert condition.given is not None
    frames = condition.given.frames[0, 0, :, 0, 0].unflatten(0, (VIEWS, FRAMES))
    assert bool(frames[:, 0].all()) and not bool(frames[:, 1:].any())
    last = condition.given.last_of(latents)
    assert torch.equal(last[:, :, 3 * 4 + 2], latents[:, :, 3 * 4])


def path(**changes: Tensor) -> Tensor:
    points = torch.zeros(1, 64, 3)
    points[..., 0] = torch.arange(1, 65)
    return points


@pytest.mark.parametrize(
    "points, message",
    [
        (None, "missing"),
        (torch.zeros(1, 63, 3), "63, 3"),
        (torch.zeros(64, 3), "must be"),
        (path() * torch.nan, "finite"),
        (path() + 400.0, "first point"),  # the world's axes
        (path() * 10, "car's frame"),  # decimetres
        (path()[..., [1, 0, 2]], "sideways"),
        (path()[..., [1, 2, 0]], "climbs"),  # the camera's axes
    ],
)
def test_trajectories_that_are_refused(points: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_trajectory(points)


def test_missing_views_are_refused() -> None:
    world = model(SIX, trajectory=True)
    latents, text, points = batch()
    with pytest.raises(ValueError, match="batch.text"):
        world.conditioner.text(text[:, :5])
    with pytest.raises(ValueError, match="views"):
        world.generate_latents(
            condition=latents[:, :, :5], num_latent_frames=FRAMES, text=text, fps=FPS, seed=0,
            controls=Controls(trajectory=points),
        )  # fmt: skip
    with pytest.raises(ValueError, match="joint_views"):
        replace(SINGLE, joint_views=False)
