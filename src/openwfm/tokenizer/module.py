"""The LightningModule that trains a tokenizer on clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from openwfm.data.batch import VideoBatch
from openwfm.randomness import derive_seed, torch_generator
from openwfm.tokenizer.adversarial import (
    balanced_gradient,
    gradient_penalty,
    hinge_loss,
    relativistic_loss,
)
from openwfm.tokenizer.autoencoder import VideoTokenizer, read_net
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.tokenizer.discriminator import AdversarialConfig, Discriminator
from openwfm.tokenizer.initialize import initialize
from openwfm.tokenizer.losses import psnr
from openwfm.tokenizer.objective import Objective, ReconstructionConfig
from openwfm.tokenizer.quantize import code_histogram, code_usage, perplexity
from openwfm.weights import load_strict, plain, read_weights


class TokenizerModule(LightningModule):
    """Reconstruction training; ``weights`` is a published folder to start from, of the same net.

    ``freeze_encoder`` trains the decoder alone: the latent space stays what it was, so world models
    trained on it remain valid. With ``adversarial`` a discriminator learns beside the tokenizer;
    only the tokenizer's steps count as steps. The trainer must not clip gradients then.
    """

    tokenizer: VideoTokenizer
    discriminator: Discriminator

    def __init__(
        self,
        *,
        net: TokenizerConfig,
        objective: ReconstructionConfig,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        weights: str | None = None,
        freeze_encoder: bool = False,
        discriminator: AdversarialConfig | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net, self.objective = net, objective
        self.freeze_encoder, self.adversarial = freeze_encoder, discriminator
        self.automatic_optimization = discriminator is None
        self._objective: Objective | None = None
        self.optimizer, self.scheduler = optimizer, scheduler
        self.weights, self.seed = weights, seed
        self._histogram = torch.zeros(0, dtype=torch.int64)

    def configure_model(self) -> None:
        if hasattr(self, "tokenizer"):
            return
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(self.seed, "tokenizer weights"))
            self.tokenizer = VideoTokenizer(self.net)
            if self.weights is None:
                initialize(self.tokenizer)
        if self.weights is not None:
            config, tensors = read_weights(self.weights, kind="tokenizer")
            published = read_net(config.get("net"), self.weights)
            if published != self.net:
                raise ValueError(
                    f"model.weights={self.weights}: its net is {published}, "
                    f"but model.net is {self.net}"
                )
            load_strict(self.tokenizer, tensors, self.weights)
        self._objective = Objective(self.objective)
        if self.adversarial is not None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(derive_seed(self.seed, "discriminator weights"))
                self.discriminator = Discriminator(self.adversarial)
            ignore_in_ddp(self, "discriminator")
        if self.freeze_encoder:
            self.tokenizer.encoder.requires_grad_(False)
            self.tokenizer.to_latents.requires_grad_(False)

    def training_step(self, batch: VideoBatch, batch_idx: int) -> Tensor | None:
        loss, reconstruction = self._loss(batch, "train")
        if self.adversarial is None:
            return loss
        self._adversarial_step(batch, loss, reconstruction, self.adversarial)
        return None

    def _adversarial_step(
        self, batch: VideoBatch, loss: Tensor, reconstruction: Tensor, config: AdversarialConfig
    ) -> None:
        """A step of the tokenizer, then one of the discriminator, each once it has begun."""
        step, clip = self.global_step, config.gradient_clip
        (gradient,) = torch.autograd.grad(loss, reconstruction)
        if step >= config.start_step + config.warmup_steps:
            adversarial = self._deception(_video(batch), reconstruction, config)
            gradient, factor = balanced_gradient(
                reconstruction,
                gradient,
                torch.autograd.grad(adversarial, reconstruction)[0],
                list(self.tokenizer.decoder.conv_out.last.parameters()),
                weight=config.weight,
                max_factor=config.max_factor,
            )
            self._log("train/adversarial", adversarial, batch)
            self._log("train/adversarial_factor", factor, batch)
        optimizer: Any = self.optimizers()[0]  # type: ignore[index]
        optimizer.zero_grad()
        self.manual_backward(reconstruction, gradient)
        self.clip_gradients(optimizer, gradient_clip_val=clip, gradient_clip_algorithm="norm")
        optimizer.step()
        if self.scheduler is not None:
            self.lr_schedulers().step()  # type: ignore[union-attr, call-arg]
        if step >= config.start_step:
            self._discriminator_step(batch, reconstruction.detach(), config, step)

    def _deception(self, video: Tensor, made: Tensor, config: AdversarialConfig) -> Tensor:
        """What the tokenizer minimises: the mean logit of real clips is not its to change."""
        logits = self.discriminator(made)
        if config.loss == "hinge":
            return -logits.mean()
        with torch.no_grad():
            real = self.discriminator(video)
        return relativistic_loss(logits, real)

    def _discriminator_step(
        self, batch: VideoBatch, made: Tensor, config: AdversarialConfig, step: int
    ) -> None:
        """Lightning counts the steps of wrapped optimizers, and one step a batch is enough: raw."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index]
        real_logits, made_logits = self.discriminator(_video(batch)), self.discriminator(made)
        judge = hinge_loss if config.loss == "hinge" else relativistic_loss
        loss = judge(real_logits, made_logits)
        self._log("train/discriminator", loss, batch)
        self._log("train/logit_gap", real_logits.mean() - made_logits.mean(), batch)
        for name, weight, clips in (("r1", config.r1, _video(batch)), ("r2", config.r2, made)):
            if weight > 0 and step % config.r1_every == 0:
                penalty = gradient_penalty(self.discriminator, clips)
                self._log(f"train/{name}", penalty, batch)
                loss = loss + weight * config.r1_every * penalty
        optimizer.zero_grad()
        self.manual_backward(loss)
        self._average_gradients(self.discriminator)
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), config.gradient_clip)
        optimizer.step()

    def _average_gradients(self, module: nn.Module) -> None:
        """Over ranks; what DDP does for the parameters that it has not been told to ignore."""
        if self.trainer.world_size == 1:
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        mean = self.trainer.strategy.reduce(flat, reduce_op="mean")
        parts = mean.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def validation_step(self, batch: VideoBatch, batch_idx: int) -> None:
        """``val/psnr`` is of clips, ``val/image_psnr`` of their middle frames as images."""
        _, reconstruction = self._loss(batch, "val")
        video = _video(batch)
        self._log("val/psnr", psnr(reconstruction, video).mean(), batch)
        image = video[:, :, video.shape[2] // 2][:, :, None]
        self._log("val/image_psnr", psnr(self.tokenizer(image), image).mean(), batch)
        if (num_codes := self.net.num_codes) is not None:
            indices = self.tokenizer.indices(self.tokenizer.encode_chunk(_video(batch)))
            self._histogram += code_histogram(indices, num_codes)

    def on_validation_epoch_start(self) -> None:
        self._histogram = torch.zeros(self.net.num_codes or 0, device=self.device).long()

    def on_validation_epoch_end(self) -> None:
        """Usage and perplexity of the codes, over all validation clips."""
        if self.net.num_codes is not None:
            histogram = self.trainer.strategy.reduce(self._histogram, reduce_op="sum")
            self.log("val/code_usage", code_usage(histogram))
            self.log("val/perplexity", perplexity(histogram))

    def _loss(self, batch: VideoBatch, stage: str) -> tuple[Tensor, Tensor]:
        video = _video(batch)
        reconstruction = self.tokenizer(video)
        assert self._objective is not None
        step = self.global_step
        generator = torch_generator(self.seed, f"{stage} perceptual", step, self.global_rank)
        terms = self._objective(reconstruction, video, step, generator)
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        if not torch.isfinite(loss):
            values = ", ".join(f"{name}={float(v.detach())}" for name, (_, v) in terms.items())
            raise ValueError(
                f"{stage}/loss={float(loss.detach())} at step {step} ({values}): "
                f"must be finite; batch {', '.join(batch.key)}"
            )
        for name, (_, value) in terms.items():
            self._log(f"{stage}/{name}", value, batch)
        self._log(f"{stage}/loss", loss, batch)
        return loss, reconstruction

    def _log(self, name: str, value: Tensor, batch: VideoBatch) -> None:
        training = name.startswith("train/")
        self.log(
            name,
            value.detach(),
            on_step=training,
            on_epoch=not training,
            prog_bar=name in ("train/loss", "val/psnr"),
            batch_size=len(batch),
            sync_dist=not training,
        )

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer([p for p in self.tokenizer.parameters() if p.requires_grad])
        parts: list[dict[str, Any]] = [{"optimizer": optimizer}]
        if self.scheduler is not None:
            schedule = {"scheduler": self.scheduler(optimizer), "interval": "step"}
            parts[0]["lr_scheduler"] = schedule
        if (config := self.adversarial) is not None:
            parameters = self.discriminator.parameters()
            parts.append({"optimizer": Adam(parameters, lr=config.lr, betas=config.betas)})
        return parts

    @torch.no_grad()
    def sample_videos(self, batch: VideoBatch) -> dict[str, Tensor]:
        """Rows to look at: the clips and their reconstructions."""
        video = _video(batch)
        return {"real": video, "reconstruction": self.tokenizer(video).clamp(-1, 1)}

    def export_config(self) -> dict[str, Any]:
        """Config of a published folder; goes with :meth:`export_tensors`."""
        return {"kind": "tokenizer", "net": plain(asdict(self.net))}

    def export_tensors(self) -> dict[str, Tensor]:
        return self.tokenizer.state_dict()


def ignore_in_ddp(module: nn.Module, child: str) -> None:
    """Take the weights under ``child`` out of DDP's hands.

    DDP wants every parameter it holds in every backward pass, but the tokenizer and the
    discriminator have one each. Ranks build equal discriminators from one seed.
    """
    part = module.get_submodule(child)
    names = [name for name, _ in (*part.named_parameters(), *part.named_buffers())]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
        module, [f"{child}.{name}" for name in names]
    )


def _video(batch: VideoBatch) -> Tensor:
    if batch.video is None:
        raise ValueError(f"batch.video: missing; a tokenizer learns from clips ({batch.key[0]})")
    return batch.video
