"""Training of an autoregressive world model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from openwfm.autoregressive.config import TransformerConfig
from openwfm.autoregressive.context import ContextControl, ContextControlConfig
from openwfm.autoregressive.medusa import MedusaConfig, freeze_below, medusa_loss
from openwfm.autoregressive.model import AutoregressiveWorldModel, StepDraws, TextConfig
from openwfm.autoregressive.objective import NextTokenConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.autoregressive.start import start_from
from openwfm.data.batch import VideoBatch
from openwfm.nn.decay import Groups, decay_groups
from openwfm.randomness import derive_seed, fingerprint, torch_generator
from openwfm.tokenizer import VideoTokenizer
from openwfm.tokenizer.frozen import FrozenTokenizer


class AutoregressiveModule(L.LightningModule):
    """Trains ``self.model`` on the tokens of a frozen discrete tokenizer, or of cached codes.

    A cache of latents holds codes, which are exact in fp16; indices are derived from them. The
    tokenizer is no submodule, so it is neither in checkpoints nor averaged. ``weights`` is a
    published folder to start from; its network must equal ``net``, but for what a stage of training
    changes when ``grow`` is set. With ``medusa`` the heads learn, and the last layers below them.
    ``compile`` compiles the layers (a minute), which does not change what they compute.
    ``control`` adds what steers a clip to the context.
    """

    def __init__(
        self,
        *,
        net: TransformerConfig,
        objective: NextTokenConfig,
        sampler: SamplerConfig,
        text: TextConfig,
        tokenizer: str,
        optimizer: Callable[[Groups], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        weights: str | None,
        seed: int,
        medusa: MedusaConfig | None = None,
        grow: bool = False,
        compile: bool = False,
        control: ContextControlConfig | None = None,
    ) -> None:
        super().__init__()
        self.net_config, self.objective = net, objective
        self.sampler_config, self.text_config = sampler, text
        self.medusa, self.grow, self.compile_layers = medusa, grow, compile
        self.control = control or None
        self.optimizer, self.scheduler = optimizer, scheduler
        self.tokenizer_folder, self.weights, self.seed = tokenizer, weights, seed
        self.model: AutoregressiveWorldModel | None = None
        self._frozen = FrozenTokenizer(tokenizer)

    def configure_model(self) -> None:
        if self.model is not None:
            return
        tokenizer = self._frozen.module
        if tokenizer.config.num_codes != self.net_config.vocabulary:
            raise ValueError(
                f"net.vocabulary={self.net_config.vocabulary}: must equal the "
                f"{tokenizer.config.num_codes or 0} codes of {self.tokenizer_folder}"
            )
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(self.seed, "initial weights"))
            model = AutoregressiveWorldModel(
                net=self.net_config,
                objective=self.objective,
                sampler=self.sampler_config,
                text=self.text_config,
                tokenizer_sha256=self.tokenizer_sha256,
                medusa=self.medusa,
                control=self._control(),
            )
        if self.weights is not None:
            start_from(model, self.weights, grow=self.grow)
        if self.medusa is not None:
            freeze_below(model.net, self.medusa)
        if self.compile_layers:
            for layer in model.net.layers:
                layer.compile()
        self.model = model

    def _control(self) -> ContextControl | None:
        if self.control is None:
            return None
        width = self.net_config.context_width
        if width is None:
            raise ValueError("net.context_width: null: must be set for model.control")
        return self.control.build(width)

    @property
    def world_model(self) -> AutoregressiveWorldModel:
        self.configure_model()
        assert self.model is not None
        return self.model

    @property
    def tokenizer(self) -> VideoTokenizer:
        return self._frozen.on(self.device)

    @property
    def tokenizer_sha256(self) -> str:
        """What a cache of latents, and the meaning of tokens, is bound to."""
        return self._frozen.sha256

    @torch.no_grad()
    def encode_latents(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b z f y x"]:
        return self.tokenizer.encode(video)

    @torch.no_grad()
    def indices(self, batch: VideoBatch) -> Int[Tensor, "b f y x"]:
        """Tokens of a batch. Raises ValueError when it has neither tokens, codes nor video."""
        if batch.tokens is not None:
            return batch.tokens
        if batch.latents is not None:
            return self.tokenizer.indices(batch.latents.float())
        if batch.video is None:
            raise ValueError(f"batch {batch.key}: has neither tokens, codes nor video")
        return self.tokenizer.encode_indices(batch.video)

    def training_step(self, batch: VideoBatch, batch_idx: int) -> Float[Tensor, ""]:
        # The keys tell micro-batches of one optimiser step apart, also after a resume.
        position = (self.global_step, self.global_rank, fingerprint(batch.key))
        generator = torch_generator(self.seed, "train/draws", *position)
        draws = self.world_model.draw(len(batch), generator)
        return self._loss(batch, draws, "train")

    def validation_step(self, batch: VideoBatch, batch_idx: int) -> None:
        """With every prompt, so that epochs compare."""
        draws = StepDraws(torch.ones(len(batch), dtype=torch.bool))
        self._loss(batch, draws, "val")

    def _loss(self, batch: VideoBatch, draws: StepDraws, stage: str) -> Float[Tensor, ""]:
        model, indices = self.world_model, self.indices(batch)
        hidden = model.hidden(indices, draws, text=batch.text, actions=self._actions(batch))
        found = model.loss(indices, hidden)
        values: dict[str, Tensor] = {"cross_entropy": found.cross_entropy, "z": found.z}
        values |= {f"accuracy_frame{i}": value for i, value in enumerate(found.accuracy)}
        loss = found.loss
        if model.medusa is not None:
            heads = medusa_loss(
                model.medusa,
                model.net,
                hidden,
                indices.flatten(1),
                model.counted(indices),
                alone=self.global_step < model.medusa.config.warmup_steps,
            )
            loss = loss + heads.loss
            values |= {f"accuracy_ahead{i + 2}": value for i, value in enumerate(heads.accuracy)}
        if not bool(torch.isfinite(loss)):
            raise ValueError(
                f"loss={float(loss.detach())} at step {self.global_step} with clips "
                f"{', '.join(batch.key)}: must be finite; lower optimizer.lr or inspect the clips"
            )
        options: dict[str, Any] = {"batch_size": len(batch), "sync_dist": stage == "val"}
        self.log(f"{stage}/loss", loss, prog_bar=True, **options)
        for name, value in values.items():
            if bool(torch.isfinite(value)):
                self.log(f"{stage}/{name}", value, **options)
        return loss

    def _actions(self, batch: VideoBatch) -> Float[Tensor, "b s a"] | None:
        return None if self.world_model.control is None else batch.action

    @torch.no_grad()
    def sample_tokens(self, batch: VideoBatch) -> dict[str, Int[Tensor, "b f y x"]]:
        """Rows of tokens: the truth, the likeliest token at each place given the true ones before
        it, and futures drawn freely."""
        model, indices = self.world_model, self.indices(batch).long()
        actions = self._actions(batch)
        sequence = model.sequence(indices)
        logits = model.net(sequence[:, :-1], context=model.context(batch.text, actions=actions))
        forced = indices.flatten(1).clone()
        forced[:, -logits.shape[1] :] = logits.argmax(-1)
        free = model.generate(
            indices[:, : max(1, self.objective.max_frames)],
            indices.shape[1],
            text=batch.text,
            actions=actions,
            generator=torch_generator(self.seed, "samples"),
        )
        return {"tokenizer": indices, "teacher_forced": forced.view_as(indices), "free": free}

    @torch.no_grad()
    def decode_tokens(self, tokens: Int[Tensor, "b f y x"]) -> Float[Tensor, "b c t h w"]:
        return self.tokenizer.decode_indices(tokens.int()).clamp(-1, 1)

    def sample_videos(self, batch: VideoBatch) -> dict[str, Float[Tensor, "b c t h w"]]:
        """The rows of `sample_tokens`, decoded."""
        return {name: self.decode_tokens(row) for name, row in self.sample_tokens(batch).items()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Weight decay acts on matrices only: not on norms or embeddings."""
        optimizer = self.optimizer(decay_groups(self.world_model, exempt=("net.embed.",)))
        if self.scheduler is None:
            return {"optimizer": optimizer}
        schedule: LRSchedulerConfigType = {
            "scheduler": self.scheduler(optimizer),
            "interval": "step",
        }
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def export_config(self) -> dict[str, Any]:
        return self.world_model.export_config()

    def export_tensors(self) -> dict[str, Tensor]:
        return self.world_model.state_dict()
