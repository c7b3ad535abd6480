from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openwfm.diffusion.conditioner import Conditioner, Draws, used_length
from openwfm.diffusion.config import ConditionerConfig

CONFIG = ConditionerConfig(text_width=6, text_tokens=8, min_frames=1, max_frames=2)


def draws(config: ConditionerConfig, batch: int, seed: int = 0) -> Draws:
    generator = torch.Generator().manual_seed(seed)
    return Draws.of(config, torch.Size((batch, 2, 3, 2, 2)), generator)


def test_dropout_rates_and_frame_counts() -> None:
    drawn = draws(replace(CONFIG, min_frames=0, frames_dropout=0.4), 20_000)
    assert float(drawn.keep_text.float().mean()) == pytest.approx(0.8, abs=0.01)
    shares = torch.bincount(drawn.num_frames, minlength=3) / 20_000
    assert shares.tolist() == pytest.approx([0.4 + 0.2, 0.2, 0.2], abs=0.015)
    logs = drawn.sigma.log()
    assert (float(logs.mean()), float(logs.std())) == pytest.approx((-3.0, 2.0), abs=0.05)


def test_a_rate_does_not_shift_the_other_draws() -> None:
    one, other = draws(CONFIG, 16), draws(replace(CONFIG, text_dropout=0.9), 16)
    assert torch.equal(one.num_frames, other.num_frames) and torch.equal(one.noise, other.noise)
    assert not torch.equal(one.keep_text, other.keep_text)


def test_training_condition_per_sample() -> None:
    latents, text = torch.randn(64, 2, 3, 2, 2), torch.randn(64, 5, 6)
    text[:, 3:] = 0
    drawn = draws(CONFIG, 64)
    condition = Conditioner(CONFIG).training(
        latents, drawn, text=text, fps=torch.ones(64), padding_mask=None
    )
    assert isinstance(condition.text, torch.Tensor) and condition.given is not None
    assert condition.text.shape == (64, 3, 6) and condition.null_tokens == 5
    kept = condition.text.flatten(1).abs().sum(1) > 0
    assert torch.equal(kept, drawn.keep_text) and 0 < int(kept.sum()) < 64
    counts = condition.given.frames.flatten(1).sum(1)
    assert torch.equal(counts, drawn.num_frames) and set(counts.tolist()) == {1, 2}
    noise = (condition.given.noised - latents) / condition.given.sigma.view(-1, 1, 1, 1, 1)
    assert torch.allclose(noise, drawn.noise, atol=1e-2)


def test_sampling_condition() -> None:
    given, noise = torch.randn(2, 2, 2, 2, 2), torch.randn(2, 2, 3, 2, 2)
    condition = Conditioner(CONFIG).sampling(given, noise, 0.1, text=None, fps=torch.ones(2))
    assert condition.given is not None and condition.null_tokens == 8
    assert condition.given.frames.flatten(1).tolist() == [[True, True, False]] * 2
    assert torch.allclose(condition.given.noised[:, :, :2], given + 0.1 * noise[:, :, :2])


def test_unconditional_half() -> None:
    conditioner = Conditioner(CONFIG)
    text, noise = torch.randn(2, 4, 6), torch.randn(2, 2, 3, 2, 2)
    condition = conditioner.sampling(
        torch.randn(2, 2, 1, 2, 2), noise, 0.1, text=text, fps=torch.tensor([8.0, 24.0])
    )
    pair = condition.with_unconditional()
    assert isinstance(pair.text, torch.Tensor) and pair.null_tokens == condition.null_tokens == 4
    assert torch.equal(pair.text[:2], text) and float(pair.text[2:].abs().sum()) == 0
    assert pair.fps.tolist() == [8, 24, 8, 24] and pair.given is not None
    assert torch.equal(pair.given.clean[2:], pair.given.clean[:2])
    longer = condition.with_unconditional(torch.ones(1, 7, 6))
    assert isinstance(longer.text, torch.Tensor)
    assert longer.text.shape == (4, 7, 6) and longer.null_tokens == 1
    assert float(longer.text[:2, 4:].abs().sum()) == 0


def test_used_length() -> None:
    text = torch.zeros(2, 5, 3)
    assert used_length(text) == 0
    text[1, 2, 1] = -1
    assert used_length(text) == 3
    assert used_length(text[:, :0]) == 0


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "batch.text: missing.*minilm-l6-v2.*6 wide"),
        (torch.ones(2, 4, 7), r"batch.text: shape \(2, 4, 7\).*minilm-l6-v2"),
        (torch.ones(2, 6), "batch.text: shape"),
        (torch.ones(2, 9, 6), "9 tokens: must be at most conditioner.text_tokens=8"),
    ],
)
def test_bad_text(text: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Conditioner(CONFIG).text(text)


def test_condition_frames_must_leave_something_to_generate() -> None:
    conditioner, noise = Conditioner(CONFIG), torch.randn(1, 2, 3, 2, 2)
    with pytest.raises(ValueError, match="between 1 and 2"):
        conditioner.sampling(noise, noise, 0.1, text=None, fps=torch.ones(1))
    with pytest.raises(ValueError, match="max_frames=2: must be below the 2 latent frames"):
        conditioner.training(
            noise[:, :, :2],
            draws(CONFIG, 1),
            text=torch.ones(1, 1, 6),
            fps=torch.ones(1),
            padding_mask=None,
        )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"text_dropout": 1.0}, "text_dropout=1.0"),
        ({"frames_dropout": -0.1}, "frames_dropout=-0.1"),
        ({"min_frames": 3}, "min_frames=3"),
        ({"augment_p_std": 0.0}, "augment_p_std=0.0"),
    ],
)
def test_bad_config(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]
