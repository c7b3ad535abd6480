"""The LightningModule that trains a tokenizer on clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from openwfm.data.batch import VideoBatch
from openwfm.randomness import derive_seed, torch_generator
from openwfm.tokenizer.autoencoder import VideoTokenizer, read_net
from openwfm.tokenizer.config import ReconstructionConfig, TokenizerConfig
from openwfm.tokenizer.initialize import initialize
from openwfm.tokenizer.losses import PerceptualDistance, l1_loss, pick_frames, psnr, take_frames
from openwfm.tokenizer.quantize import code_histogram, code_usage, perplexity
from openwfm.weights import load_strict, plain, read_weights


class TokenizerModule(LightningModule):
    """Reconstruction training; ``weights`` is a published folder to start from, of the same net.

    ``freeze_encoder`` trains the decoder alone: the latent space stays what it was, so world models
    trained on it remain valid.
    """

    tokenizer: VideoTokenizer

    def __init__(
        self,
        *,
        net: TokenizerConfig,
        objective: ReconstructionConfig,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        weights: str | None = None,
        freeze_encoder: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net, self.objective = net, objective
        self.freeze_encoder = freeze_encoder
        # A tuple hides the frozen backbone from checkpoints and from weight averaging.
        self._perceptual: tuple[PerceptualDistance, ...] = ()
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
        if self.objective.perceptual > 0:
            self._perceptual = (PerceptualDistance(),)
        if self.freeze_encoder:
            self.tokenizer.encoder.requires_grad_(False)
            self.tokenizer.to_latents.requires_grad_(False)

    def training_step(self, batch: VideoBatch, batch_idx: int) -> Tensor:
        loss, _ = self._loss(batch, "train")
        return loss

    def validation_step(self, batch: VideoBatch, batch_idx: int) -> None:
        _, reconstruction = self._loss(batch, "val")
        self._log("val/psnr", psnr(reconstruction, _video(batch)).mean(), batch)
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
        terms = {"l1": (self.objective.l1, l1_loss(reconstruction, video))}
        step = self.global_step
        if self.objective.perceptual > 0 and step >= self.objective.perceptual_start_step:
            generator = torch_generator(self.seed, f"{stage} perceptual", step, self.global_rank)
            count = self.objective.perceptual_frames
            indices = pick_frames(len(video), video.shape[2], count, generator)
            distance = self._perceptual[0].to(self.device)(
                take_frames(reconstruction, indices), take_frames(video, indices)
            )
            terms["perceptual"] = (self.objective.perceptual, distance)
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
        if self.scheduler is None:
            return optimizer
        schedule = {"scheduler": self.scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

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


def _video(batch: VideoBatch) -> Tensor:
    if batch.video is None:
        raise ValueError(f"batch.video: missing; a tokenizer learns from clips ({batch.key[0]})")
    return batch.video
