"""A module small enough that the callbacks are what a test measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from openwfm.data.batch import VideoBatch


class TinyModule(L.LightningModule):
    """Learns one 2x2 matrix; its buffer is a constant that averaging must not touch."""

    def __init__(self) -> None:
        super().__init__()
        self.seed = 7

    def configure_model(self) -> None:
        if not hasattr(self, "linear"):
            self.linear = nn.Linear(2, 2, bias=False)
            self.register_buffer("constant", torch.tensor([0.1, 1 / 3]))

    def training_step(self, batch: VideoBatch, batch_idx: int) -> Tensor:
        return self.linear(torch.ones(1, 2)).sub(3.0).square().sum()

    def validation_step(self, batch: VideoBatch, batch_idx: int) -> None:
        assert not self.training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)

    def export_config(self) -> dict[str, Any]:
        return {"kind": "tiny"}

    def export_tensors(self) -> dict[str, Tensor]:
        return self.state_dict()

    def sample_videos(self, batch: VideoBatch) -> Mapping[str, Tensor]:
        assert not self.training and batch.video is not None
        return {"real": batch.video, "generated": -batch.video}


class Clips(L.LightningDataModule):
    manifest_sha256 = "ab" * 32

    def export_config(self) -> dict[str, Any]:
        return {"size": [16, 16], "num_frames": 5, "fps": 24.0}

    def train_dataloader(self) -> DataLoader[VideoBatch]:
        batch = VideoBatch(
            key=("a", "b", "c"), fps=torch.full((3,), 24.0), video=torch.rand(3, 3, 5, 16, 16)
        )
        return DataLoader([batch] * 200, batch_size=None)

    val_dataloader = train_dataloader


class Recorder(L.Callback):
    """Keeps the raw weights after every step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.metrics: dict[str, Tensor] = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any
    ) -> None:
        self.weights.append(pl_module.linear.weight.detach().clone())
        self.metrics = dict(trainer.callback_metrics)


@pytest.fixture
def module() -> TinyModule:
    return TinyModule()


@pytest.fixture
def fit():
    def run(callbacks: list[L.Callback], module: L.LightningModule | None = None, **options: Any):
        torch.manual_seed(0)
        resume = options.pop("resume", None)
        recorder = Recorder()
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=options.pop("max_steps", 20),
            callbacks=[*callbacks, recorder],
            logger=options.pop("logger", False),
            enable_checkpointing=options.pop("enable_checkpointing", False),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=options.pop("limit_val_batches", 0),
            **options,
        )
        trainer.fit(module or TinyModule(), datamodule=Clips(), ckpt_path=resume)
        return trainer, recorder

    return run
