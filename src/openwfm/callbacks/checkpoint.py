"""Checkpoints from which a run resumes: one file, whole at every moment."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import ModelCheckpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames.

    Lightning's own atomic save goes through the system's temporary folder (fsspec's
    LocalFileOpener), and a move from there to another file system is a copy: a kill in the middle
    leaves half a checkpoint under the final name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        target = Path(path)
        part = target.with_name(f".{target.name}.part")
        super().save_checkpoint(checkpoint, part, storage_options)
        os.replace(part, target)


class Checkpoint(ModelCheckpoint):
    """Keeps ``folder/last.ckpt``, renewed every ``every_n_steps`` and after the last step."""

    def __init__(self, *, folder: str, every_n_steps: int = 500) -> None:
        if every_n_steps < 1:
            raise ValueError(
                f"callbacks.checkpoint.every_n_steps={every_n_steps}: must be at least 1"
            )
        super().__init__(
            dirpath=folder,
            every_n_train_steps=every_n_steps,
            save_top_k=0,
            save_last=True,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        with warnings.catch_warnings():
            # With manual optimization Lightning warns that the weights are those after the step:
            # so they are with automatic optimization, and so resuming needs them.
            warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optim")
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        # Not in on_train_end: by then the average has replaced the weights that training needs.
        ends = trainer.should_stop or trainer.global_step == trainer.max_steps
        if ends and self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
