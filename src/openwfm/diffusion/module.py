"""Training of a diffusion world model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from openwfm.data.batch import VideoBatch
from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.control import Adaptation, ControlConfig, Controls
from openwfm.diffusion.decoder import decode_codes
from openwfm.diffusion.frames import decode_frames, encode_frames
from openwfm.diffusion.model import DiffusionWorldModel, StepDraws
from openwfm.diffusion.stages import start_from
from openwfm.diffusion.views import fold_views, unfold_views
from openwfm.files import sha256_file
from openwfm.nn.decay import Groups, decay_groups
from openwfm.nn.freeze import freeze
from openwfm.randomness import derive_seed, fingerprint, torch_generator
from openwfm.tokenizer import VideoTokenizer
from openwfm.tokenizer.frozen import FrozenTokenizer
from openwfm.weights import TENSORS


class DiffusionModule(L.LightningModule):
    """Trains ``self.model`` on raw latents: cached ones, or of the frozen tokenizer.

    The tokenizer is no submodule, so it is neither in checkpoints nor averaged. ``weights`` is a
    published folder to start from; its network must equal ``net``, or with ``resize`` all of it but
    the size of clips (`openwfm.diffusion.stages`); it may lack the ``control``. Latent statistics
    must be set before fit (``set_latent_statistics``) or come with ``weights`` or a checkpoint.
    ``frame_by_frame`` encodes every frame as a picture, for worlds that move a frame at a time.
    ``lora`` trains adapters of ``weights``, which are published merged and as a small file beside;
    parameters whose name matches ``frozen`` (a regular expression) do not learn.

    ``codes`` is the folder of a discrete tokenizer: the model then learns to decode its tokens, to
    latents of ``tokenizer``, and a cache holds its codes behind the latents.
    """

    def __init__(
        self,
        *,
        net: DiTConfig,
        objective: EdmConfig,
        conditioner: ConditionerConfig,
        sampler: SamplerConfig,
        tokenizer: str,
        optimizer: Callable[[Groups], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        weights: str | None,
        resize: bool = False,
        checkpoint_blocks: bool = False,
        control: ControlConfig | None = None,
        frame_by_frame: bool = False,
        seed: int,
        codes: str | None = None,
        lora: Adaptation | None = None,
        frozen: str | None = None,
    ) -> None:
        super().__init__()
        if lora and weights is None:
            raise ValueError("model.lora: must come with model.weights, the base that it adapts")
        self.net_config, self.objective, self.sampler_config = net, objective, sampler
        self.conditioner_config = conditioner
        self.optimizer, self.scheduler = optimizer, scheduler
        self.tokenizer_folder, self.weights, self.seed = tokenizer, weights, seed
        self.resize, self.checkpoint_blocks = resize, checkpoint_blocks
        self.control, self.frame_by_frame = control, frame_by_frame
        self.lora, self.frozen = lora or None, frozen  # an empty group is none
        self.model: DiffusionWorldModel | None = None
        self._frozen = FrozenTokenizer(tokenizer)
        self._codes = None if codes is None else FrozenTokenizer(codes)

    def configure_model(self) -> None:
        if self.model is not None:
            return
        tokenizer = self._frozen.module
        if tokenizer.config.latent_channels != self.net_config.in_channels:
            raise ValueError(
                f"net.in_channels={self.net_config.in_channels}: must equal the "
                f"{tokenizer.config.latent_channels} latent channels of {self.tokenizer_folder}"
            )
        self._check_codes()
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(self.seed, "initial weights"))
            model = DiffusionWorldModel(
                net=self.net_config,
                objective=self.objective,
                conditioner=self.conditioner_config,
                sampler=self.sampler_config,
                control=self.control.build(self.net_config.width) if self.control else None,
            )
        if self._codes is not None:
            _embed_codes(model, self._codes.module)
        if self.weights is not None:
            start_from(model, self.weights, resize=self.resize)
        if self.lora is not None:
            self.lora.adapt(model, torch_generator(self.seed, "adapters"))
        if self.frozen is not None:
            freeze(model, self.frozen)
        model.net.checkpoint_blocks = self.checkpoint_blocks
        self.model = model

    def _check_codes(self) -> None:
        """The tokens must be those of the codebook, one frame of them a latent frame."""
        known = None if self._codes is None else self._codes.module.config
        if (known.num_codes if known else 0) != self.net_config.codebook:
            raise ValueError(
                f"net.codebook={self.net_config.codebook}: must equal the "
                f"{known.num_codes if known else 0} codes of model.codes"
            )
        if known and known.temporal_compression != self._frozen.module.config.temporal_compression:
            raise ValueError(
                f"codes: temporal compression {known.temporal_compression}: must equal that of "
                f"{self.tokenizer_folder}"
            )

    @property
    def world_model(self) -> DiffusionWorldModel:
        self.configure_model()
        assert self.model is not None
        return self.model

    @property
    def tokenizer(self) -> VideoTokenizer:
        return self._frozen.on(self.device)

    @property
    def tokenizer_sha256(self) -> str:
        """What a cache of latents is bound to."""
        if self._codes is None:
            return self._frozen.sha256
        return f"{self._frozen.sha256}+{self._codes.sha256}"

    @torch.no_grad()
    def encode_latents(self, video: Float[Tensor, "b *v c t h w"]) -> Float[Tensor, "b z f y x"]:
        """Latents, and behind them the codes of the tokens where there are such; both tokenizers
        have the same grid then. Raises ValueError when they have not."""
        latents = self._encoded(video)
        if self._codes is None:
            return latents
        codes = self._codes.on(self.device).encode(video)
        if codes.shape[2:] != latents.shape[2:]:
            raise ValueError(
                f"data.latents: tokens {tuple(codes.shape[2:])} and latents "
                f"{tuple(latents.shape[2:])}: a cache takes one grid; set it to null"
            )
        return torch.cat((latents, codes), dim=1)

    def set_latent_statistics(self, mean: Float[Tensor, "z f"], std: Float[Tensor, "z f"]) -> None:
        channels = self.net_config.in_channels
        self.world_model.set_latent_statistics(mean[:channels], std[:channels])

    def on_fit_start(self) -> None:
        self.world_model.check_statistics()

    @torch.no_grad()
    def raw_latents(self, batch: VideoBatch) -> Float[Tensor, "b z f y x"]:
        if batch.latents is not None:
            return batch.latents[:, : self.net_config.in_channels].float()
        if batch.video is None:
            raise ValueError(f"batch {batch.key}: has neither latents nor video")
        return self._encoded(batch.video)

    def _encoded(self, video: Float[Tensor, "b *v c t h w"]) -> Float[Tensor, "b z f y x"]:
        """Views, each coded on its own, lie one after the other along time."""
        if self.frame_by_frame:
            return encode_frames(self.tokenizer, video)
        views = self.net_config.num_views
        if video.ndim - 4 != min(views, 2) or (views > 1 and video.shape[1] != views):
            raise ValueError(
                f"batch.video: shape {tuple(video.shape)}: must be of net.num_views={views}; set "
                "data.config.views"
            )
        folded = video.flatten(0, -5)
        return unfold_views(self.tokenizer.encode(folded), views)

    @torch.no_grad()
    def tokens(self, batch: VideoBatch) -> Int[Tensor, "b f r c"] | None:
        """What is decoded; None for a world model."""
        if self._codes is None:
            return None
        tokenizer = self._codes.on(self.device)
        if batch.latents is not None:
            return tokenizer.indices(batch.latents[:, self.net_config.in_channels :].float())
        assert batch.video is not None
        return tokenizer.encode_indices(batch.video)

    def training_step(self, batch: VideoBatch, batch_idx: int) -> Float[Tensor, ""]:
        latents = self.raw_latents(batch)
        # The keys tell micro-batches of one optimiser step apart, also after a resume.
        position = (self.global_step, self.global_rank, fingerprint(batch.key))
        draws = self.world_model.draw(
            latents.shape, torch_generator(self.seed, "train/noise", *position)
        )
        loss, edm = self._loss(batch, latents, draws)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        name = "train/edm" if latents.shape[2] > 1 else "train/edm_image"
        self.log(name, edm, batch_size=len(batch))
        return loss

    def validation_step(self, batch: VideoBatch, batch_idx: int) -> None:
        """Noise depends on the clip's key alone, so that epochs and batch sizes compare."""
        self.world_model.check_statistics()
        latents = self.raw_latents(batch)
        loss, edm = self._loss(batch, latents, self._fixed_draws(batch, latents))
        self.log("val/loss", loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        self.log("val/edm", edm, batch_size=len(batch), sync_dist=True)

    def _fixed_draws(self, batch: VideoBatch, latents: Tensor) -> StepDraws:
        shape = torch.Size((1, *latents.shape[1:]))
        generators = [
            torch_generator(self.seed, "val/noise", fingerprint((key,))) for key in batch.key
        ]
        return StepDraws.stack([self.world_model.draw(shape, each) for each in generators])

    @property
    def control_names(self) -> tuple[str, ...]:
        """Of the dimensions of an action; none for other controls."""
        return getattr(self.control, "names", ())

    @torch.no_grad()
    def fixed_loss(self, batch: VideoBatch, *, controlled: bool = True) -> Float[Tensor, ""]:
        """Weighted squared error with the noise of a validation; no clip's control is dropped, or
        that of all."""
        latents = self.raw_latents(batch)
        draws = self._fixed_draws(batch, latents)
        draws = replace(draws, keep_control=torch.full_like(draws.keep_control, controlled))
        return self._loss(batch, latents, draws)[1]

    def _loss(self, batch: VideoBatch, latents: Tensor, draws: StepDraws) -> tuple[Tensor, Tensor]:
        loss, edm = self.world_model.loss(
            latents,
            draws,
            text=batch.text,
            fps=batch.fps,
            padding_mask=batch.padding_mask,
            controls=self._controls(batch, latents),
            codes=self.tokens(batch),
        )
        return self._finite(loss, batch), edm

    def _controls(self, batch: VideoBatch, latents: Tensor) -> Controls:
        ratio = self.tokenizer.config.spatial_compression
        return Controls.of(batch, (latents.shape[3] * ratio, latents.shape[4] * ratio))

    def _finite(self, loss: Tensor, batch: VideoBatch) -> Tensor:
        if not bool(torch.isfinite(loss)):
            raise ValueError(
                f"loss={float(loss.detach())} at step {self.global_step} with clips "
                f"{', '.join(batch.key)}: must be finite; lower optimizer.lr or inspect the clips"
            )
        return loss

    @torch.no_grad()
    def sample_videos(self, batch: VideoBatch) -> dict[str, Float[Tensor, "b c t h w"]]:
        """Rows to look at: the clips as the tokenizer keeps them, and futures of their start."""
        latents = self.raw_latents(batch)
        tokens, count = self.tokens(batch), self.conditioner_config.max_frames
        if tokens is not None:
            assert self._codes is not None
            plain = self._codes.on(self.device).decode_indices(tokens.int())
            made = decode_codes(
                self.world_model, tokens, size=latents.shape[3:], fps=batch.fps, seed=self.seed
            )
            return {
                "tokenizer": self.tokenizer.decode(latents).clamp(-1, 1),
                "plain_decoder": plain.clamp(-1, 1),
                "diffusion_decoder": self.tokenizer.decode(made).clamp(-1, 1),
            }
        views = self.net_config.num_views
        given = unfold_views(fold_views(latents, views)[:, :, :count], views)
        generated = self._plain_model().generate_latents(
            condition=given if count else None,
            size=(latents.shape[3], latents.shape[4]),
            num_latent_frames=latents.shape[2] // views,
            text=batch.text,
            fps=batch.fps,
            seed=self.seed,
            controls=self._controls(batch, latents),
        )
        rows = {"tokenizer": latents, "generated": generated}
        return {name: self.decode_latents(row).clamp(-1, 1) for name, row in rows.items()}

    def decode_latents(self, latents: Float[Tensor, "b z f y x"]) -> Float[Tensor, "b c t h w"]:
        """Pixels; of several views they lie below each other."""
        decode = decode_frames if self.frame_by_frame else type(self.tokenizer).decode
        views = self.net_config.num_views
        return unfold_views(decode(self.tokenizer, fold_views(latents, views)), views, dim=3)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Weight decay acts on matrices only: not on norms, position tables or the loss's u."""
        optimizer = self.optimizer(
            decay_groups(self.world_model, exempt=("net.position.", "logvar."))
        )
        if self.scheduler is None:
            return {"optimizer": optimizer}
        schedule: LRSchedulerConfigType = {
            "scheduler": self.scheduler(optimizer),
            "interval": "step",
        }
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def export_config(self) -> dict[str, Any]:
        config = self.world_model.export_config()
        if self.frame_by_frame:
            config["frame_by_frame"] = True
        if self._codes is not None:
            config["codes_sha256"] = self._codes.sha256
        return config

    def export_tensors(self) -> dict[str, Tensor]:
        return self._plain_model().state_dict()

    def export_adapter(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """What was learned beside the base, and of which base; None where all was."""
        if self.lora is None or self.weights is None:
            return None
        base = sha256_file(Path(self.weights) / TENSORS)
        config = {**self.export_config(), "kind": "adapter", "base_sha256": base}
        config["lora"] = self.lora.export_config()
        return config, self.lora.learned(self.world_model)

    def _plain_model(self) -> DiffusionWorldModel:
        """What sampling and publishing take: adapters merged into a copy."""
        if self.lora is None:
            return self.world_model
        merged = self.lora.merged(self.world_model)
        assert isinstance(merged, DiffusionWorldModel)
        return merged


@torch.no_grad()
def _embed_codes(model: DiffusionWorldModel, tokenizer: VideoTokenizer) -> None:
    """Start from what a token is: its code, in the first channels. The release starts from zero,
    but also from a network that paints already; here a thousand embeddings would be learnt one by
    one."""
    assert model.net.codes is not None
    table = model.net.codes.embedding.weight
    codes = tokenizer.codes(torch.arange(len(table), dtype=torch.int32)[None, None, None])
    known = codes[0].flatten(1).T[:, : table.shape[1]]
    table[:, : known.shape[1]] = known
