"""Does a model that trains listen to what steers it? Its loss under conditions that are wrong on
purpose, from step 0: a model that ignores its actions is seen in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

import lightning as L
import torch
from torch import Tensor

from openwfm.callbacks.samples import first_clips
from openwfm.data.batch import VideoBatch


@runtime_checkable
class Steered(Protocol):
    """What a LightningModule offers so that its obedience can be gauged.

    ``fixed_loss`` is the loss with noise of the clips' keys alone, without its control where
    ``controlled`` is false. ``control_names`` names the dimensions of actions, as far as it can.
    """

    @property
    def control_names(self) -> tuple[str, ...]: ...

    def fixed_loss(self, batch: VideoBatch, *, controlled: bool = True) -> Tensor: ...


class Obedience(L.Callback):
    """Every ``every_n_steps``, from step 0, to all loggers: ``obedience/loss``, and the share of it
    by which the loss grows when a condition is wrong:

    ``FIELD_shuffled``: another clip's; ``FIELD_late``: what was a quarter of the clip earlier;
    ``FIELD_NAME``: one dimension is another clip's (of a camera: place or direction), which is the
    sensitivity to it; ``zeroed``: no control at all.

    FIELD is ``action``, ``camera``, ``trajectory`` or ``text``, whichever the batch has. The clips
    are the first ``num_clips`` of the validation set (of training, where there is none), and their
    noise is always the same, so that steps compare and ignored conditions have a gap of exactly 0.
    """

    def __init__(self, *, every_n_steps: int = 250, num_clips: int = 16) -> None:
        if every_n_steps < 1:
            raise ValueError(
                f"callbacks.obedience.every_n_steps={every_n_steps}: must be at least 1"
            )
        if num_clips < 2:
            raise ValueError(
                f"callbacks.obedience.num_clips={num_clips}: must be at least 2, for one clip "
                "gets the conditions of another"
            )
        self.every_n_steps, self.num_clips = every_n_steps, num_clips
        self._batch: VideoBatch | None = None
        self._last_step = -1

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, Steered):
            raise ValueError(
                f"callbacks.obedience: {type(pl_module).__name__} has no fixed_loss(batch) and "
                "control_names; remove the callback or add them"
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: VideoBatch, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self.every_n_steps or step == self._last_step:
            return
        self._last_step = step
        if self._batch is None:
            self._batch = first_clips(self._held_out(trainer) or batch, self.num_clips)
        training = pl_module.training
        pl_module.eval()
        values = gauge(cast(Steered, pl_module), self._batch.to(pl_module.device))
        pl_module.train(training)
        for logger in trainer.loggers:
            logger.log_metrics({f"obedience/{name}": v for name, v in values.items()}, step)

    def _held_out(self, trainer: L.Trainer) -> VideoBatch | None:
        data = getattr(trainer, "datamodule", None)
        return None if data is None else next(iter(data.val_dataloader()), None)


@torch.no_grad()
def gauge(module: Steered, batch: VideoBatch) -> dict[str, float]:
    """``loss``, and the share of it that each wrong condition adds (`Obedience`).

    Raises ValueError for a batch of one clip, or with nothing that steers.
    """
    if len(batch) < 2:
        raise ValueError(f"obedience: {len(batch)} clips: must be at least 2")
    others = wrong_batches(batch, module.control_names)
    if not others:
        raise ValueError(
            "obedience: the batch has no action, camera, trajectory or text (data.config.truths)"
        )
    right = float(module.fixed_loss(batch))
    gaps = {name: float(module.fixed_loss(other)) / right - 1 for name, other in others.items()}
    zeroed = float(module.fixed_loss(batch, controlled=False)) / right - 1
    return {"loss": right, "zeroed": zeroed, **gaps}


def wrong_batches(batch: VideoBatch, names: tuple[str, ...] = ()) -> dict[str, VideoBatch]:
    """The batch with one condition wrong at a time, by the names of `Obedience`."""
    found: dict[str, dict[str, Tensor]] = {}
    for field in ("action", "trajectory"):
        value = getattr(batch, field)
        if value is None:
            continue
        found |= {f"{field}_{how}": {field: w} for how, w in _wrong(value).items()}
        for k in range(value.shape[-1]):
            name = names[k] if field == "action" and k < len(names) else str(k)
            one = value.clone()
            one[..., k] = another(value)[..., k]
            found[f"{field}_{name}"] = {field: one}
    if batch.camera_to_world is not None:
        poses = batch.camera_to_world
        found |= {f"camera_{how}": {"camera_to_world": w} for how, w in _wrong(poses).items()}
        for name, columns in (("place", slice(3, 4)), ("direction", slice(0, 3))):
            mixed = poses.clone()
            mixed[..., :3, columns] = another(poses)[..., :3, columns]
            found[f"camera_{name}"] = {"camera_to_world": mixed}
    if batch.text is not None:
        found["text_shuffled"] = {"text": another(batch.text)}
    return {name: replace(batch, **cast(Mapping[str, Any], v)) for name, v in found.items()}


def another(values: Tensor) -> Tensor:
    """Each clip gets those of another one, half a batch away: neighbours may be of one video."""
    return values.roll(len(values) // 2, 0)


def _wrong(values: Tensor) -> dict[str, Tensor]:
    """``b s …``: of another clip, and of a quarter of the clip earlier (the first one repeated)."""
    count = values.shape[1]
    earlier = (torch.arange(count, device=values.device) - max(1, count // 4)).clamp(min=0)
    return {"shuffled": another(values), "late": values[:, earlier]}
