"""Images among clips, and padding: noise levels, conditions and what the loss counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.diffusion.noise import training_sigma
from openwfm.diffusion.objective import edm_loss, edm_weight, padding_of_latents

CONFIG = EdmConfig(p_mean=0.3, p_std=0.8, image_p_mean=-1.2, image_p_std=1.2, scale_by_frames=True)
NET = DiTConfig(
    width=32, num_blocks=1, num_heads=1, adaln_rank=4, text_width=6, in_channels=4, out_channels=4,
    max_size=(8, 16, 16),
)  # fmt: skip


def logs(config: EdmConfig, frames: int, seed: int = 0) -> torch.Tensor:
    shape = torch.Size((100_000, 1, frames, 1, 1))
    return training_sigma(config, shape, torch.Generator().manual_seed(seed)).log().double()


@pytest.mark.parametrize(
    "frames, mean, std", [(1, -1.2, 1.2), (4, 0.3 + 0.5 * 1.386294, 0.8), (9, 1.398612, 0.8)]
)
def test_noise_of_images_and_of_clips(frames: int, mean: float, std: float) -> None:
    """Within four standard errors of Normal(mean + ln(frames)/2, std²)."""
    found, error = logs(CONFIG, frames), std / 100_000**0.5
    assert float(found.mean()) == pytest.approx(mean, abs=4 * error)
    assert float(found.std()) == pytest.approx(std, abs=4 * error / 2**0.5)


def test_the_factor_comes_from_the_batch_and_not_from_the_draw() -> None:
    plain = replace(CONFIG, scale_by_frames=False)
    torch.testing.assert_close(
        logs(CONFIG, 16) - logs(plain, 16), torch.full((100_000,), 4.0).log().double()
    )
    same = EdmConfig(p_mean=0.3, p_std=0.8)
    assert torch.equal(logs(same, 1), logs(same, 5))


@pytest.mark.parametrize("values", [{"image_p_std": 0.0}, {"image_p_std": -1.0}])
def test_bad_values(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"objective\.image_p_std=.*must be positive"):
        EdmConfig(**values)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_loss_is_a_mean_over_elements_neither_given_nor_padding(seed: int) -> None:
    """Against a double loop over the elements that count, in fp64."""
    random = torch.Generator().manual_seed(seed)
    b, z, f, y, x = (int(torch.randint(1, 5, (), generator=random)) for _ in range(5))
    clean, estimate = (torch.randn(b, z, f, y, x, generator=random) for _ in range(2))
    sigma, u = torch.rand(b, generator=random) + 0.1, torch.randn(b, generator=random)
    count = torch.randint(0, f, (b,), generator=random)
    given_frames = (torch.arange(f) < count[:, None])[:, None, :, None, None]
    padding = torch.rand(b, 1, 1, y, x, generator=random) < 0.4
    padding[:, :, :, 0, 0] = False
    total = plain = number = 0.0
    for i in range(b):
        kept = ~(given_frames[i] | padding[i]).expand(z, f, y, x)
        errors = (
            edm_weight(sigma[i : i + 1], 0.5).double()
            * (clean[i] - estimate[i])[kept].double() ** 2
        )
        total += float((errors * torch.exp(-u[i].double()) + u[i].double()).sum())
        plain, number = plain + float(errors.sum()), number + int(kept.sum())
    loss, edm = edm_loss(estimate, clean, sigma, 0.5, u, given_frames, padding)
    assert float(loss) == pytest.approx(total / number, rel=1e-4, abs=1e-5)
    assert float(edm) == pytest.approx(plain / number, rel=1e-4)
    with pytest.raises(ValueError, match="nothing is generated"):
        edm_loss(estimate, clean, sigma, 0.5, u, given_frames, torch.ones_like(padding))


def test_padding_of_latents_is_what_the_network_sees() -> None:
    mask = torch.zeros(1, 1, 32, 48)
    mask[..., 40:], mask[..., :16, :] = 1, 1
    found = padding_of_latents(mask, (4, 6))
    assert found.shape == (1, 1, 1, 4, 6)
    wanted = torch.zeros(4, 6, dtype=torch.bool)
    wanted[:, 5], wanted[:2] = True, True
    assert torch.equal(found[0, 0, 0], wanted)


def model(**changes: object) -> DiffusionWorldModel:
    torch.manual_seed(0)
    conditioner = ConditionerConfig(text_width=6, text_tokens=5, min_frames=1, max_frames=2)
    built = DiffusionWorldModel(
        net=replace(NET, **changes),
        objective=CONFIG,
        conditioner=conditioner,
        sampler=SamplerConfig(),
    )  # type: ignore[arg-type]
    built.set_latent_statistics(torch.zeros(4, 3), torch.ones(4, 3))
    return built


def loss_of(
    built: DiffusionWorldModel,
    latents: torch.Tensor,
    fps: float = 24.0,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    draws = built.draw(latents.shape, torch.Generator().manual_seed(3))
    text = torch.randn(len(latents), 3, 6, generator=torch.Generator().manual_seed(4))
    rates = torch.full((len(latents),), fps)
    return built.loss(latents, draws, text=text, fps=rates, padding_mask=mask)


def test_images_train_a_video2world_network_without_frames_or_frame_rate() -> None:
    built, images = model(), torch.randn(3, 4, 1, 4, 4)
    loss, edm = loss_of(built, images)
    assert torch.isfinite(loss) and float(edm.detach()) > 0
    assert torch.equal(loss, loss_of(built, images, fps=1.0)[0])
    with pytest.raises(ValueError, match="conditioner.max_frames=2: must be below the 2"):
        loss_of(built, torch.randn(3, 4, 2, 4, 4))


def test_what_is_padding_does_not_teach() -> None:
    """No gradient of the loss reaches the estimate there, and the mask reaches the network."""
    built, clips = model(zero_init_output=True), torch.randn(2, 4, 3, 4, 4)
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 16:] = 1
    other = clips.clone()
    other[..., 2:] += 5.0  # F is zero, so only the error of these elements can change
    assert torch.equal(loss_of(built, clips, mask=mask)[1], loss_of(built, other, mask=mask)[1])
    assert not torch.equal(loss_of(built, clips)[1], loss_of(built, other)[1])
    with pytest.raises(ValueError, match="padding_mask: this network takes none"):
        loss_of(model(padding_mask=False), clips, mask=mask)
