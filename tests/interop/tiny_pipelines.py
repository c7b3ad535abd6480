"""Pipelines of diffusers with random weights, as small as the networks allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openwfm.diffusion import DiffusionWorldModel
from openwfm.interop.world_convert import ConvertWorldConfig, read_world, write_world

WORDS = ["<pad>", "</s>", "<unk>", "▁a", "▁red", "▁ball", "▁blurry", "▁", "r", "e", "d"]
PROMPT, NEGATIVE = "a red ball", "blurry"
ROWS, FRAMES, LATENT = 32, 17, 3


class Checker:
    """Stands in for cosmos_guardrail, which is not installed: everything is safe."""

    def to(self, device: object) -> Checker:
        return self

    def check_text_safety(self, text: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def build(folder: Path, *, video: bool, final: str = "zero", padding: bool = True) -> Path:
    """A pipeline folder with random weights, made by diffusers and transformers alone."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    transformer = diffusers.CosmosTransformer3DModel(
        in_channels=5 if video else 4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        text_embed_dim=24,
        adaln_lora_dim=8,
        max_size=(8, 16, 16),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=padding,
    )
    for parameter in transformer.parameters():  # large enough for every input to matter
        torch.nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5)
    vae = diffusers.AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(),
        num_layers=1,
        latents_mean=torch.linspace(-0.2, 0.3, 4 * 8).tolist(),
        latents_std=torch.linspace(0.5, 1.5, 4 * 8).tolist(),
    )
    encoder = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=len(WORDS) + 100, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2
        )
    )
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tokenizer = transformers.T5TokenizerFast(
        vocab=[(word, -float(i)) for i, word in enumerate(WORDS)]
    )
    kind = diffusers.CosmosVideoToWorldPipeline if video else diffusers.CosmosTextToWorldPipeline
    pipeline = kind(
        text_encoder=encoder.eval(),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
        vae=vae.eval(),
        scheduler=diffusers.EDMEulerScheduler(final_sigmas_type=final),
        safety_checker=Checker(),
    )
    pipeline.save_pretrained(folder)
    return folder


def opened(folder: Path, *, video: bool, **parts: None) -> Any:
    import diffusers

    kind = diffusers.CosmosVideoToWorldPipeline if video else diffusers.CosmosTextToWorldPipeline
    pipeline = kind.from_pretrained(
        folder, safety_checker=Checker(), local_files_only=True, **parts
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def converted(source: Path, out: Path, form: str = "openwfm", **changes: Any) -> Path:
    config = ConvertWorldConfig(source=str(source), out=str(out), format=form, **changes)
    found = read_world(config)
    assert found.describe()
    write_world(found, out, form)
    return out


def noise_of(model: DiffusionWorldModel, purpose: str, seed: int = 3) -> Tensor:
    return model.noise(seed, f"sample/{purpose}", 1, (4, LATENT, ROWS // 8, ROWS // 8))


def ours(
    model: DiffusionWorldModel,
    pipeline: Any,
    *,
    steps: int,
    guidance: float,
    fps: float,
    condition: Tensor | None = None,
) -> Tensor:
    """Our latents, normalised as the pipelines leave them."""
    text, negative = pipeline.encode_prompt(PROMPT, NEGATIVE, True)
    latents = model.generate_latents(
        condition=condition,
        num_latent_frames=LATENT,
        text=text,
        negative_text=negative if guidance else None,
        fps=torch.tensor([fps]),
        seed=3,
        size=(ROWS // 8, ROWS // 8),
        sampler=replace(model.sampler, num_steps=steps, guidance=guidance),
    )
    return model.normalise(latents)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


COMMON = {"prompt": PROMPT, "height": ROWS, "width": ROWS, "num_frames": FRAMES}
