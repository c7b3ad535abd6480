"""Adversarial fine-tuning: no change before it begins; both networks learn; it resumes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from openwfm.callbacks import EMA, Checkpoint
from openwfm.data.batch import VideoBatch
from openwfm.nn.schedule import warmup_cosine
from openwfm.randomness import torch_generator
from openwfm.tokenizer import TokenizerConfig
from openwfm.tokenizer.discriminator import AdversarialConfig
from openwfm.tokenizer.losses import l1_loss, perceptual_distance, pick_frames, take_frames
from openwfm.tokenizer.module import TokenizerModule
from openwfm.tokenizer.objective import ReconstructionConfig
from openwfm.weights import read_checkpoint

NET = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)
OBJECTIVE = ReconstructionConfig(perceptual=0.05, perceptual_frames=1)
ADAMW = functools.partial(torch.optim.AdamW, lr=3e-3, betas=(0.9, 0.99))
ADVERSARY = AdversarialConfig(channels=4, warmup_steps=2, r1=0.1, r1_every=2)


def batches(num: int, *, images: bool = True) -> list[VideoBatch]:
    """Smooth random clips of one size, every third a batch of images."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for i in range(num):
        count, frames = (3, 1) if images and i % 3 == 2 else (2, 9)
        coarse = torch.rand(count, 3, 3, 4, 4, generator=generator) * 2 - 1
        video = torch.nn.functional.interpolate(coarse, (frames, 16, 16), mode="trilinear")
        keys = tuple(f"clip{i}_{j}" for j in range(count))
        out.append(VideoBatch(key=keys, fps=torch.full((count,), 24.0), video=video))
    return out


class _Stream(IterableDataset[VideoBatch]):
    """No length, as our own loaders have none."""

    def __init__(self, batches: list[VideoBatch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[VideoBatch]:
        return iter(self.batches)


def make(**changes: Any) -> TokenizerModule:
    schedule = functools.partial(warmup_cosine, warmup_steps=2, max_steps=50)
    defaults: dict[str, Any] = {
        "net": NET,
        "objective": OBJECTIVE,
        "optimizer": ADAMW,
        "scheduler": schedule,
        "seed": 7,
    }
    return TokenizerModule(**(defaults | changes))


def fit(
    module: TokenizerModule,
    data: list[VideoBatch],
    steps: int,
    *,
    callbacks: Any = (),
    ckpt_path: str | None = None,
) -> Trainer:
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=None if module.adversarial else 1.0,
        max_epochs=-1,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
    )
    start = int(read_checkpoint(Path(ckpt_path))["global_step"]) if ckpt_path else 0
    loaders = [DataLoader(_Stream(part), batch_size=None) for part in (data[start:], data[:1])]
    trainer.fit(module, *loaders, ckpt_path=ckpt_path, weights_only=True)
    assert trainer.global_step == steps, "only the tokenizer's steps count"
    return trainer


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_without_a_discriminator_it_is_the_plain_loop_bit_for_bit() -> None:
    """Against a loop of its own: L1 + perceptual, clipped AdamW, nothing of Lightning."""
    data = batches(4)
    module = make()
    fit(module, data, 4)

    plain = make()
    plain.configure_model()
    assert plain._objective is not None
    backbone = plain._objective._backbone
    assert backbone is not None
    optimizer = ADAMW(plain.tokenizer.parameters())
    schedule = warmup_cosine(optimizer, warmup_steps=2, max_steps=50)
    for step, batch in enumerate(data):
        assert batch.video is not None
        made = plain.tokenizer(batch.video)
        generator = torch_generator(7, "train perceptual", step, 0)
        frames = pick_frames(len(batch), batch.video.shape[2], 1, generator)
        distance = perceptual_distance(
            backbone(take_frames(made, frames)), backbone(take_frames(batch.video, frames))
        )
        loss = l1_loss(made, batch.video) + 0.05 * distance
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.tokenizer.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    assert same(module.tokenizer.state_dict(), plain.tokenizer.state_dict())


def test_a_discriminator_that_has_not_begun_changes_nothing() -> None:
    data = batches(4)
    plain, waiting = make(), make(discriminator=AdversarialConfig(channels=4, start_step=9))
    fit(plain, data, 4)
    before = fit_and_keep(waiting, data, 4)
    assert same(plain.tokenizer.state_dict(), waiting.tokenizer.state_dict())
    assert same(before, waiting.discriminator.state_dict())


def fit_and_keep(module: TokenizerModule, data: list[VideoBatch], steps: int) -> dict[str, Tensor]:
    module.configure_model()
    before = {n: t.clone() for n, t in module.discriminator.state_dict().items()}
    fit(module, data, steps)
    return before


def test_the_warm_up_is_the_discriminator_s_alone() -> None:
    data = batches(2)
    plain, adversarial = make(), make(discriminator=ADVERSARY)
    fit(plain, data, 2)
    before = fit_and_keep(adversarial, data, 2)
    assert same(plain.tokenizer.state_dict(), adversarial.tokenizer.state_dict())
    assert not same(before, adversarial.discriminator.state_dict())


@pytest.mark.parametrize("normalization, loss", [("spectral", "hinge"), ("none", "relativistic")])
def test_both_learn_from_clips_and_images(normalization: str, loss: str) -> None:
    config = AdversarialConfig(
        channels=4, warmup_steps=2, normalization=normalization, loss=loss,
        r1=0.1, r2=0.1, r1_every=2,
    )  # fmt: skip
    data = batches(6)
    plain, adversarial = make(), make(discriminator=config)
    fit(plain, data, 6)
    metrics = fit(adversarial, data, 6).callback_metrics
    assert not same(plain.tokenizer.state_dict(), adversarial.tokenizer.state_dict())
    names = {"adversarial", "adversarial_factor", "discriminator", "logit_gap", "r1", "r2"}
    assert {f"train/{name}" for name in names} <= set(metrics)
    assert 0 < metrics["train/adversarial_factor"] <= config.max_factor
    assert all(value.isfinite() for value in metrics.values())


def test_a_discriminator_learns_to_tell_blurred_from_sharp() -> None:
    """The tokenizer stands still (learning rate 0), so the task does too."""
    still = functools.partial(torch.optim.AdamW, lr=0.0)
    config = AdversarialConfig(channels=8, normalization="none", lr=5e-3, warmup_steps=10**6)
    module = make(optimizer=still, scheduler=None, discriminator=config)
    data = batches(1, images=False)
    metrics = fit(module, list(itertools.repeat(data[0], 40)), 40).callback_metrics
    assert metrics["train/discriminator"] < 1.0
    assert metrics["train/logit_gap"] > 1.0


@pytest.fixture
def checkpointed(tmp_path: Path) -> Callable[[str], list[Any]]:
    return lambda name: [
        EMA(decay=0.9),
        Checkpoint(folder=str(tmp_path / name), every_n_steps=5),
    ]


def test_a_stopped_run_resumes_bit_for_bit(
    checkpointed: Callable[[str], list[Any]], tmp_path: Path
) -> None:
    """Both networks, both optimisers, the schedule and the average."""
    data = batches(8)
    fit(make(discriminator=ADVERSARY), data, 8, callbacks=checkpointed("whole"))
    fit(make(discriminator=ADVERSARY), data, 5, callbacks=checkpointed("part"))
    torch.manual_seed(123)
    last = str(tmp_path / "part" / "last.ckpt")
    fit(make(discriminator=ADVERSARY), data, 8, callbacks=checkpointed("part"), ckpt_path=last)
    whole, part = (read_checkpoint(tmp_path / n / "last.ckpt") for n in ("whole", "part"))
    assert len(whole["optimizer_states"]) == 2
    assert any(name.startswith("discriminator.") for name in whole["state_dict"])
    for name in ("state_dict", "optimizer_states", "lr_schedulers", "current_model_state"):
        if name in whole:
            _equal(whole[name], part[name], name)


def _equal(one: Any, other: Any, path: str) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            _equal(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for i, pair in enumerate(zip(one, other, strict=True)):
            _equal(*pair, f"{path}[{i}]")
    else:
        assert one == other, path


def test_published_weights_hold_no_discriminator() -> None:
    module = make(discriminator=ADVERSARY)
    module.configure_model()
    plain = make()
    plain.configure_model()
    assert same(module.export_tensors(), plain.export_tensors())
