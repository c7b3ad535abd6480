"""A world whose futures a diffusion model samples in the latents of a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.diffusion import DiffusionWorldModel, load_world_model
from openwfm.diffusion.config import SamplerConfig
from openwfm.files import read_json, sha256_file
from openwfm.text import TextEncoder, embed_prompts, text_encoder
from openwfm.tokenizer import VideoTokenizer, load_tokenizer
from openwfm.weights import CONFIG, TENSORS
from openwfm.world.world import TOKEN_SAMPLING, Sampling, World, WorldFacts


class DiffusionWorld(World):
    """Both networks in eval mode, fp32, on one device."""

    def __init__(
        self, model: DiffusionWorldModel, tokenizer: VideoTokenizer, facts: WorldFacts
    ) -> None:
        self.model, self.tokenizer, self.facts = model, tokenizer, facts

    @classmethod
    def read(cls, folder: Path, *, device: torch.device | str = "cpu") -> DiffusionWorld:
        model = load_world_model(folder).to(device).requires_grad_(False)
        tokenizer = load_tokenizer(folder / "tokenizer").to(device).eval().requires_grad_(False)
        config = model.conditioner.config
        data = read_json(folder / CONFIG).get("data") or {}
        size = data.get("size")
        facts = WorldFacts(
            temporal=tokenizer.temporal,
            max_condition=config.max_frames,
            needs_frames=config.min_frames > 0 and config.frames_dropout == 0,
            weights_sha256={
                "world": sha256_file(folder / TENSORS),
                "tokenizer": sha256_file(folder / "tokenizer" / TENSORS),
            },
            size=(int(size[0]), int(size[1])) if size else None,
            num_frames=data.get("num_frames"),
            fps=data.get("fps"),
        )
        return cls(model, tokenizer, facts)

    @cached_property
    def _encoder(self) -> TextEncoder:
        return text_encoder(self.model.conditioner.config.text_encoder)

    def settings(self, sampling: Sampling) -> dict[str, Any]:
        return asdict(self._sampler(sampling))

    def _sampler(self, sampling: Sampling) -> SamplerConfig:
        given = {name: value for name, value in asdict(sampling).items() if value is not None}
        for name in TOKEN_SAMPLING:
            if name in given:
                raise ValueError(
                    f"{name}={given[name]}: a diffusion world has none; use guidance or num_steps"
                )
        return replace(self.model.sampler, **given)

    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"] | None:
        config = self.model.conditioner.config
        return embed_prompts(lambda: self._encoder, prompts, config.text_width, config.text_tokens)

    @torch.inference_mode()
    def predict(
        self,
        frames: Float[Tensor, "b c n h w"] | None,
        *,
        text: Float[Tensor, "b n d"] | None,
        num_frames: int,
        fps: Float[Tensor, " b"],
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Float[Tensor, "b c t h w"]:
        device, facts = self.device, self.facts
        condition, size = None, None
        if frames is not None:
            condition = self.tokenizer.encode(frames.to(device))
        elif facts.size is not None:
            ratio = self.tokenizer.config.spatial_compression
            size = (facts.size[0] // ratio, facts.size[1] // ratio)
        latents = self.model.generate_latents(
            condition=condition,
            num_latent_frames=int(facts.temporal.latent_frames(num_frames)),
            text=None if text is None else text.to(device),
            fps=fps.to(device),
            seed=seed,
            size=size,
            sampler=self._sampler(sampling),
            progress=progress,
        )
        videos = self.tokenizer.decode(latents).clamp(-1, 1).cpu()
        if frames is not None:
            videos[:, :, : frames.shape[2]] = frames.cpu()
        return videos
