"""Training end to end: it learns, logs, repeats, refuses and exports."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from openwfm.data.batch import VideoBatch
from openwfm.tokenizer import TokenizerConfig, load_tokenizer
from openwfm.tokenizer.module import TokenizerModule
from openwfm.tokenizer.objective import ReconstructionConfig
from openwfm.weights import save_weights

NET = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)
ADAMW = functools.partial(torch.optim.AdamW, lr=3e-3, betas=(0.9, 0.99))
L1_ONLY = ReconstructionConfig(perceptual=0.0)


def make(**changes: Any) -> TokenizerModule:
    defaults: dict[str, Any] = {"net": NET, "objective": L1_ONLY, "optimizer": ADAMW, "seed": 7}
    return TokenizerModule(**(defaults | changes))


def clips(count: int = 2, frames: int = 9) -> VideoBatch:
    """Soft discs that move over a gradient."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    t = torch.linspace(-0.5, 0.5, frames).view(-1, 1, 1)
    videos = []
    for i in range(count):
        disc = torch.sigmoid(8 - 40 * ((x - t) ** 2 + (y - 0.3 * i * t) ** 2))
        videos.append(torch.stack((disc * 2 - 1, y.expand_as(disc) * 0.5, -disc)))
    keys = tuple(f"clip{i}" for i in range(count))
    return VideoBatch(key=keys, fps=torch.full((count,), 24.0), video=torch.stack(videos))


def loader(batch: VideoBatch, steps: int) -> DataLoader[VideoBatch]:
    items = list(itertools.repeat(batch, steps))
    return DataLoader(items, batch_size=None)  # type: ignore[arg-type]


def fit(module: TokenizerModule, batch: VideoBatch, steps: int) -> Trainer:
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    trainer.fit(module, loader(batch, steps), loader(batch, 1))
    return trainer


def test_a_few_steps_reduce_the_loss() -> None:
    batch, module = clips(), make()
    module.configure_model()
    assert batch.video is not None
    with torch.no_grad():
        before = (module.tokenizer(batch.video) - batch.video).abs().mean()
    trainer = fit(module, batch, 20)
    with torch.no_grad():
        after = (module.tokenizer(batch.video) - batch.video).abs().mean()
    assert after < 0.8 * before
    assert {"train/loss", "train/l1", "val/loss", "val/l1", "val/psnr"} <= set(
        trainer.callback_metrics
    )
    assert 5 < trainer.callback_metrics["val/psnr"] < 60


@pytest.mark.parametrize("time", [8, 1])
def test_discrete_nets_learn_and_log_their_codes(time: int) -> None:
    net = replace(NET, temporal_compression=time, latent_channels=3, fsq_levels=(8, 5, 5))
    batch, module = clips(), make(net=net)
    module.configure_model()
    assert batch.video is not None
    with torch.no_grad():
        before = (module.tokenizer(batch.video) - batch.video).abs().mean()
    metrics = fit(module, batch, 25).callback_metrics
    loss = (module.tokenizer(batch.video) - batch.video).abs().mean()
    assert loss < 0.8 * before
    used = module.tokenizer.encode_indices(batch.video).unique().numel()
    assert metrics["val/code_usage"].item() == pytest.approx(used / 200)
    assert 1 <= metrics["val/perplexity"] <= used + 1e-3
    loss.backward()
    still = [n for n, p in module.tokenizer.named_parameters() if p.grad is None]
    assert not still, "gradients reach the encoder through the rounding"


def test_the_same_seed_gives_the_same_weights() -> None:
    objective = ReconstructionConfig(perceptual_frames=1)
    batch = clips()
    modules = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        module = make(objective=objective)
        fit(module, batch, 2)
        modules.append(module.tokenizer.state_dict())
    assert all(torch.equal(modules[0][name], modules[1][name]) for name in modules[0])


def test_building_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    module = make()
    module.configure_model()
    tokenizer = module.tokenizer
    module.configure_model()
    assert module.tokenizer is tokenizer
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_perceptual_term_starts_when_told() -> None:
    batch = clips()
    started = fit(make(objective=ReconstructionConfig()), batch, 1).callback_metrics
    later = fit(
        make(objective=ReconstructionConfig(perceptual={5: 0.1})), batch, 1
    ).callback_metrics
    assert started["train/perceptual"] > 0
    assert "train/perceptual" not in later
    expected = started["train/l1"] + 0.1 * started["train/perceptual"]
    torch.testing.assert_close(started["train/loss"], expected)


def test_checkpoints_hold_the_tokenizer_only() -> None:
    module = make(objective=ReconstructionConfig())
    module.configure_model()
    assert all(name.startswith("tokenizer.") for name in module.state_dict())
    assert not module.hparams


def test_export_reads_back(tmp_path: Path) -> None:
    module = make()
    module.configure_model()
    save_weights(tmp_path, module.export_config(), module.export_tensors())
    loaded = load_tokenizer(tmp_path)
    assert loaded.config == NET
    continued = make(weights=str(tmp_path), seed=8)
    continued.configure_model()
    for name, tensor in module.tokenizer.state_dict().items():
        assert torch.equal(tensor, continued.tokenizer.state_dict()[name])
        assert torch.equal(tensor, loaded.state_dict()[name])

    wider = make(net=TokenizerConfig(channels=32, num_res_blocks=1), weights=str(tmp_path))
    with pytest.raises(ValueError, match=r"its net is .*channels=8.* but model\.net is .*=32"):
        wider.configure_model()


def test_a_loss_that_is_not_finite_names_the_clips() -> None:
    batch = clips()
    assert batch.video is not None
    batch.video[1, 0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"train/loss=nan at step 0 \(l1=nan\).*clip0, clip1"):
        make_step(batch)


def test_a_batch_without_video_is_refused() -> None:
    batch = VideoBatch(key=("a",), fps=torch.ones(1), latents=torch.zeros(1, 16, 2, 4, 4))
    with pytest.raises(ValueError, match=r"batch\.video: missing"):
        make_step(batch)


def make_step(batch: VideoBatch) -> None:
    module = make()
    module.configure_model()
    module.training_step(batch, 0)
