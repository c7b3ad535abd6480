"""A world whose futures a diffusion model samples in the latents of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from openwfm.posttraining import CONTROLS, CameraControl
from openwfm.randomness import derive_seed
from openwfm.shapes import LatentFrames
from openwfm.text import TextEncoder, embed_prompts, text_encoder
from openwfm.tokenizer import VideoTokenizer, load_tokenizer
from openwfm.weights import CONFIG, TENSORS
from openwfm.world.generation import TOKEN_SAMPLING, Sampling, WorldFacts
from openwfm.world.long import Chunk, Chunking, chain, one_pass, plan_chunks
from openwfm.world.world import World


class DiffusionWorld(World):
    """Both networks in eval mode, fp32, on one device."""

    def __init__(
        self, model: DiffusionWorldModel, tokenizer: VideoTokenizer, facts: WorldFacts
    ) -> None:
        self.model, self.tokenizer, self.facts = model, tokenizer, facts

    @classmethod
    def read(cls, folder: Path, *, device: torch.device | str = "cpu") -> DiffusionWorld:
        model = load_world_model(folder, CONTROLS).to(device).requires_grad_(False)
        tokenizer = load_tokenizer(folder / "tokenizer").to(device).eval().requires_grad_(False)
        config = model.conditioner.config
        config_file = read_json(folder / CONFIG)
        data = config_file.get("data") or {}
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
        if config_file.get("frame_by_frame"):
            from openwfm.world.action import ActionWorld

            return ActionWorld.of(model, tokenizer, facts, folder)
        if isinstance(model.control, CameraControl):
            from openwfm.world.camera import CameraWorld

            return CameraWorld(model, tokenizer, facts)
        if model.net.config.num_views > 1:
            from openwfm.world.multiview import MultiViewWorld

            return MultiViewWorld.of(model, tokenizer, facts, folder)
        return cls(model, tokenizer, facts)

    @cached_property
    def _encoder(self) -> TextEncoder:
        return text_encoder(self.model.conditioner.config.text_encoder)

    def settings(self, sampling: Sampling) -> dict[str, Any]:
        return asdict(self._sampler(sampling))

    def _sampler(self, sampling: Sampling) -> SamplerConfig:
        given = {name: value for name, value in asdict(sampling).items() if value is not None}
        given.pop("chunking", None)
        for name in TOKEN_SAMPLING:
            if name in given:
                raise ValueError(
                    f"{name}={given[name]}: a diffusion world has none; use guidance or num_steps"
                )
        return replace(self.model.sampler, **given)

    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"] | None:
        config = self.model.conditioner.config
        return embed_prompts(lambda: self._encoder, prompts, config.text_width, config.text_tokens)

    def chunks(self, num_frames: int, sampling: Sampling) -> list[Chunk]:
        """Chunks where the video is longer than those of training, of a world that continues."""
        facts, chunking = self.facts, sampling.chunking or Chunking()
        total = facts.temporal.latent_frames(num_frames)
        trained, limit = facts.num_frames, LatentFrames(facts.max_condition)
        if trained is None or not limit or num_frames <= trained:
            if sampling.chunking is None:
                return []
            raise ValueError(
                f"chunking: num_frames={num_frames} is one pass of this world (trained on "
                f"{trained} frames, continues {int(limit)} latent frames); leave it out"
            )
        window = facts.temporal.latent_frames(trained)
        overlap = chunking.overlap
        if overlap is None:
            overlap = min(limit, window - LatentFrames(1))
        return plan_chunks(total, window=window, overlap=LatentFrames(overlap), limit=limit)

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
        pixels = self.stream(
            frames,
            texts=[text],
            num_frames=num_frames,
            fps=fps,
            seed=seed,
            sampling=sampling,
            progress=progress,
        )
        return torch.cat(list(pixels), dim=2)

    def render(
        self,
        frames: Float[Tensor, "c n h w"] | None,
        *,
        prompts: Sequence[str],
        num_frames: int,
        fps: float,
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Float[Tensor, "c t h w"]:
        embedded = self.embed(prompts)
        pixels = self.stream(
            None if frames is None else frames[None],
            texts=[None] if embedded is None else list(embedded.split(1)),
            num_frames=num_frames,
            fps=torch.tensor([fps], dtype=torch.float32),
            seed=seed,
            sampling=sampling,
            progress=progress,
        )
        return torch.cat(list(pixels), dim=2)[0]

    @torch.inference_mode()
    def stream(
        self,
        frames: Float[Tensor, "b c n h w"] | None,
        *,
        texts: Sequence[Float[Tensor, "b n d"] | None],
        num_frames: int,
        fps: Float[Tensor, " b"],
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Iterator[Float[Tensor, "b c t h w"]]:
        """What `predict` returns, part by part as chunks are done, in memory of fixed size.

        ``texts`` are those of the chunks, the last one for the rest. The first chunk is what
        `predict` makes of as many frames with the same seed.
        """
        parts = self._latents(frames, texts, num_frames, fps, seed, sampling, progress)
        decoder, done = self.tokenizer.stream_decoder(), 0
        for latents in parts:
            pixels = decoder.push(latents).clamp(-1, 1).cpu()
            if frames is not None and done < frames.shape[2]:
                known = frames[:, :, done : done + pixels.shape[2]].cpu()
                pixels[:, :, : known.shape[2]] = known
            done += pixels.shape[2]
            yield pixels
        decoder.finish()

    def _latents(
        self,
        frames: Tensor | None,
        texts: Sequence[Tensor | None],
        num_frames: int,
        fps: Tensor,
        seed: int,
        sampling: Sampling,
        progress: bool,
    ) -> Iterator[Float[Tensor, "b z f y x"]]:
        device, facts, sampler = self.device, self.facts, self._sampler(sampling)
        chunking = sampling.chunking or Chunking()
        condition, size = None, None
        if frames is not None:
            condition = self.tokenizer.encode(frames.to(device))
        elif facts.size is not None:
            ratio = self.tokenizer.config.spatial_compression
            size = (facts.size[0] // ratio, facts.size[1] // ratio)

        def sample(chunk: Chunk, given: Tensor | None) -> Tensor:
            text = texts[min(chunk.number, len(texts) - 1)]
            sigma = chunk.sigma(chunking)
            return self.model.generate_latents(
                condition=given,
                num_latent_frames=int(chunk.length),
                text=None if text is None else text.to(device),
                fps=fps.to(device),
                seed=derive_seed(seed, "chunk", chunk.number) if chunk.number else seed,
                size=size,
                sampler=sampler if sigma is None else replace(sampler, condition_sigma=sigma),
                start=int(chunk.columns(chunking)),
                progress=progress,
            )

        total = facts.temporal.latent_frames(num_frames)
        yield from chain(self.chunks(num_frames, sampling) or [one_pass(total)], sample, condition)
