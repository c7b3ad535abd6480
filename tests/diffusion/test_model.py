from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openwfm.diffusion import DiffusionWorldModel, DiTConfig, load_world_model
from openwfm.diffusion.config import ConditionerConfig, EdmConfig, SamplerConfig
from openwfm.weights import save_weights

NET = DiTConfig(
    width=32,
    num_blocks=2,
    num_heads=2,
    adaln_rank=8,
    text_width=12,
    in_channels=4,
    out_channels=4,
    padding_mask=False,
    max_size=(8, 16, 16),
    rope_scale=(1.0, 1.0, 1.0),
)
CONDITIONER = ConditionerConfig(text_width=12, text_tokens=8, min_frames=1, max_frames=2)
SAMPLER = SamplerConfig(num_steps=4, guidance=1.5)
SHAPE = torch.Size((2, 4, 3, 4, 4))
FPS = torch.full((2,), 24.0)


def build(
    net: DiTConfig = NET, conditioner: ConditionerConfig = CONDITIONER, seed: int = 0
) -> DiffusionWorldModel:
    torch.manual_seed(seed)
    model = DiffusionWorldModel(
        net=net, objective=EdmConfig(), conditioner=conditioner, sampler=SAMPLER
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.set_latent_statistics(torch.randn(4, 2), torch.rand(4, 2) + 0.5)
    return model.eval()


def text(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 12, generator=torch.Generator().manual_seed(1))


def generate(model: DiffusionWorldModel, **changes: object) -> torch.Tensor:
    values = {
        "condition": torch.linspace(-2, 2, 2 * 4 * 2 * 16).view(2, 4, 2, 4, 4),
        "num_latent_frames": 3,
        "text": text(),
        "fps": FPS,
        "seed": 5,
        **changes,
    }
    return model.generate_latents(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["euler", "heun", "res_2ab"])
@pytest.mark.parametrize("count", [1, 2])
def test_given_frames_come_out_as_they_went_in(kind: str, count: int) -> None:
    given = 3 * torch.randn(2, 4, count, 4, 4)
    found = generate(build(), condition=given, sampler=replace(SAMPLER, kind=kind))
    assert found.shape == SHAPE and torch.allclose(found[:, :, :count], given, atol=1e-5)
    assert not torch.allclose(found[:, :, count:], given[:, :, -1:], atol=0.1)


def test_generation_is_a_function_of_the_seed_and_not_of_the_batch() -> None:
    model = build()
    first = generate(model)
    assert torch.equal(first, generate(model))
    assert not torch.allclose(first, generate(model, seed=6))
    one = generate(
        model,
        condition=torch.linspace(-2, 2, 2 * 4 * 2 * 16).view(2, 4, 2, 4, 4)[:1],
        text=text()[:1],
        fps=FPS[:1],
    )
    assert torch.allclose(first[:1], one, atol=1e-5)


def test_guidance_zero_is_conditional_and_minus_text_unconditional() -> None:
    model = build()
    off = replace(SAMPLER, guidance=0.0)
    zero = generate(model, sampler=off)
    assert torch.allclose(zero, generate(model, sampler=replace(off, guidance=1e-7)), atol=1e-4)
    assert not torch.allclose(zero, generate(model), atol=1e-3)
    nothing = generate(model, text=None)
    assert torch.allclose(nothing, generate(model, text=torch.zeros(2, 5, 12)), atol=1e-4)
    same = generate(model, negative_text=text())
    assert torch.allclose(same, zero, atol=1e-4)


def test_text2world() -> None:
    conditioner = replace(CONDITIONER, min_frames=0, max_frames=0)
    model = build(replace(NET, condition_mask=False), conditioner)
    assert generate(model, condition=None, size=(4, 6)).shape == (2, 4, 3, 4, 6)
    assert model.loss(
        torch.randn(SHAPE), model.draw(SHAPE, torch.Generator()), text=text(), fps=FPS
    )


def test_normalisation() -> None:
    model, raw = build(), torch.randn(2, 4, 5, 2, 2)
    normal = model.normalise(raw)
    for frame in range(5):
        column = min(frame, 1)
        mean, std = model.latent_mean[:, column], model.latent_std[:, column]
        expected = (raw[:, :, frame] - mean[:, None, None]) / std[:, None, None] * 0.5
        assert torch.allclose(normal[:, :, frame], expected, atol=1e-6)
    assert torch.allclose(model.denormalise(normal), raw, atol=1e-5)


def test_loss_is_deterministic_and_does_not_see_the_net_where_frames_are_given() -> None:
    model, latents = build(), torch.randn(SHAPE)
    draws = model.draw(SHAPE, torch.Generator().manual_seed(2))
    first = model.loss(latents, draws, text=text(), fps=FPS)
    again = model.draw(SHAPE, torch.Generator().manual_seed(2))
    assert torch.equal(first[0], model.loss(latents, again, text=text(), fps=FPS)[0])
    other = model.draw(SHAPE, torch.Generator().manual_seed(3))
    assert not torch.equal(first[0], model.loss(latents, other, text=text(), fps=FPS)[0])


def test_draws_scale_with_the_frames_of_the_batch() -> None:
    model = build()
    plain = model.draw(SHAPE, torch.Generator().manual_seed(0)).sigma
    model.objective = replace(model.objective, scale_by_frames=True)
    scaled = model.draw(SHAPE, torch.Generator().manual_seed(0)).sigma
    assert torch.allclose(scaled, plain * 3**0.5)


def test_publish_and_load(tmp_path: Path) -> None:
    model = build()
    save_weights(tmp_path, model.export_config(), model.state_dict())
    loaded = load_world_model(tmp_path)
    assert loaded.net.config == NET and not loaded.training
    assert torch.equal(generate(model), generate(loaded))


@pytest.mark.parametrize(
    "config, tensors, message",
    [
        ({"family": "autoregressive"}, {}, "family=diffusion"),
        ({"net": {"width": 32}}, {}, "DiTConfig has missing keys"),
        ({}, {"net.extra": torch.zeros(1)}, "unknown net.extra"),
        ({}, {"latent_mean": torch.full((4, 2), torch.nan)}, "must be finite"),
        ({}, {"latent_std": torch.zeros(4, 2)}, "std positive"),
        ({}, {"latent_std": torch.ones(4, 3)}, "must be .4, frames. both"),
    ],
)
def test_bad_folder(
    tmp_path: Path, config: dict[str, object], tensors: dict[str, torch.Tensor], message: str
) -> None:
    model = build()
    save_weights(tmp_path, {**model.export_config(), **config}, {**model.state_dict(), **tensors})
    with pytest.raises(ValueError, match=message):
        load_world_model(tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"condition": torch.zeros(2, 4, 3, 4, 4)}, "3 latent frames given"),
        ({"condition": torch.zeros(2, 5, 1, 4, 4)}, "condition"),
        ({"condition": torch.zeros(1, 4, 1, 4, 4)}, "condition"),
        ({"condition": None}, "size: missing"),
        ({"condition": None, "size": (5, 4)}, "5 rows"),
        ({"text": torch.zeros(2, 3, 13)}, "batch.text"),
        ({"text": torch.ones(1, 3, 12)}, "batch.text"),
        ({"fps": torch.zeros(2)}, "fps"),
        ({"negative_text": torch.zeros(1, 3, 5)}, "batch.text"),
    ],
)
def test_bad_request(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(build(), **changes)


def test_guidance_needs_dropout() -> None:
    model = build(conditioner=replace(CONDITIONER, text_dropout=0.0))
    with pytest.raises(ValueError, match="guidance=1.5.*text_dropout=0"):
        generate(model)
    assert generate(model, sampler=replace(SAMPLER, guidance=0.0)).shape == SHAPE


def test_unmeasured_statistics() -> None:
    model = DiffusionWorldModel(
        net=NET, objective=EdmConfig(), conditioner=CONDITIONER, sampler=SAMPLER
    )
    with pytest.raises(ValueError, match="latent statistics: not measured"):
        generate(model)


def test_parts_must_agree() -> None:
    with pytest.raises(ValueError, match="text_width=13"):
        build(conditioner=replace(CONDITIONER, text_width=13))
    with pytest.raises(ValueError, match="max_frames=2.*condition_mask"):
        build(net=replace(NET, condition_mask=False))
