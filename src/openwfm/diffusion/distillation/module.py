"""Distillation of a published diffusion world into a few-step student."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from openwfm.data.batch import VideoBatch
from openwfm.diffusion.conditioner import Condition
from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.distillation.config import ConsistencyConfig
from openwfm.diffusion.distillation.objective import (
    consistency_loss,
    level_index,
    path_levels,
    steps_at,
)
from openwfm.diffusion.dit import DiT
from openwfm.diffusion.model import DiffusionWorldModel, StepDraws
from openwfm.diffusion.module import DiffusionModule
from openwfm.diffusion.noise import frame_factor
from openwfm.diffusion.precondition import Denoise, denoise
from openwfm.diffusion.published import load_world_model
from openwfm.diffusion.sampler import guided
from openwfm.files import read_json
from openwfm.nn.decay import Groups
from openwfm.weights import CONFIG, read_fields


class DistillationModule(DiffusionModule):
    """A `DiffusionModule` with another loss: the student has its ``teacher``'s network, weights,
    conditioning and statistics of latents to start from, and a ``sampler`` of few steps.

    ``teacher`` is a published folder. It is no submodule, so it is neither in checkpoints nor
    averaged; the averaged target of the loss is, since a resumed run needs it.
    """

    def __init__(
        self,
        *,
        teacher: str,
        consistency: ConsistencyConfig,
        sampler: SamplerConfig,
        tokenizer: str,
        optimizer: Callable[[Groups], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        seed: int,
    ) -> None:
        published = read_json(Path(teacher) / CONFIG)
        if published.get("family") != "diffusion":
            raise ValueError(
                f"teacher={teacher}: family={published.get('family')}: must be a diffusion world"
            )
        super().__init__(
            net=read_fields(DiTConfig, published["net"], teacher),
            objective=read_fields(EdmConfig, published["objective"], teacher),
            conditioner=read_fields(ConditionerConfig, published["conditioner"], teacher),
            sampler=sampler,
            tokenizer=tokenizer,
            optimizer=optimizer,
            scheduler=scheduler,
            weights=teacher,
            seed=seed,
        )
        if consistency.guidance > 0 and self.conditioner_config.text_dropout == 0:
            raise ValueError(
                f"consistency.guidance={consistency.guidance}: must be 0 for a teacher trained "
                "with conditioner.text_dropout=0"
            )
        self.consistency, self._teacher = consistency, _Teacher(teacher)
        self.target: DiT | None = None

    def configure_model(self) -> None:
        if self.model is not None:
            return
        super().configure_model()
        if self.consistency.target_decay > 0:
            self.target = copy.deepcopy(self.world_model.net).requires_grad_(False)

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        super().optimizer_step(*args, **options)
        if self.target is not None:
            averaged, current = self.target.parameters(), self.world_model.net.parameters()
            with torch.no_grad():
                weight = 1 - self.consistency.target_decay
                torch._foreach_lerp_(list(averaged), list(current), weight)

    def _loss(self, batch: VideoBatch, latents: Tensor, draws: StepDraws) -> tuple[Tensor, Tensor]:
        """(loss, loss): validation is on the longest path, so that its values compare."""
        model, config = self.world_model, self.consistency
        clean = model.normalise(latents)
        condition = model.conditioner.training(
            clean, draws.condition, text=batch.text, fps=batch.fps, padding_mask=batch.padding_mask
        )
        num_steps = steps_at(self.global_step, config) if self.training else config.max_steps
        levels = path_levels(num_steps, config).to(clean.device)
        index = self._index(draws.sigma.to(clean.device), clean.shape[2], num_steps)
        net = model.net
        loss = consistency_loss(
            _denoiser(net, condition, model),
            _denoiser(self.target if self.training and self.target else net, condition, model),
            self._guided_teacher(condition, model),
            clean,
            draws.noise.to(clean.device),
            levels[index],
            levels[index + 1],
            None if condition.given is None else condition.given.frames,
            sigma_data=model.objective.sigma_data,
            huber=config.huber,
        )
        return self._finite(loss, batch), loss

    def _index(self, sigma: Tensor, num_frames: int, num_steps: int) -> Tensor:
        objective = self.objective
        factor = frame_factor(num_frames) if objective.scale_by_frames else 1.0
        return level_index(
            sigma / factor, num_steps, p_mean=objective.p_mean, p_std=objective.p_std
        )

    def _guided_teacher(self, condition: Condition, model: DiffusionWorldModel) -> Denoise:
        net, guidance = self._teacher.on(self.device), self.consistency.guidance
        if guidance == 0:
            return _denoiser(net, condition, model)
        both = _denoiser(net, condition.with_unconditional(), model)
        return guided(lambda x, sigma: both(x, torch.cat((sigma, sigma))), guidance)


class _Teacher:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    @cached_property
    def _net(self) -> DiT:
        return load_world_model(self.folder).net.requires_grad_(False)

    def on(self, device: torch.device) -> DiT:
        return self._net.to(device)


def _denoiser(net: DiT, condition: Condition, model: DiffusionWorldModel) -> Denoise:
    sigma_data = model.objective.sigma_data
    return lambda x, sigma: denoise(net, x, sigma, condition, sigma_data)
