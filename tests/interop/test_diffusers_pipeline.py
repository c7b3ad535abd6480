"""Whole pipelines of diffusers against our world model: the same weights, text and noise."""

from __future__ import annotations

import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openwfm.diffusion import DiffusionWorldModel, load_world_model
from openwfm.files import read_json, write_json
from openwfm.interop.diffusers_pipeline import read_scheduler, read_transformer, text_folders
from openwfm.interop.world_convert import ConvertWorldConfig, read_world, write_world
from openwfm.tokenizer import load_tokenizer

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the two libraries, on their own code

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
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
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
    return model._noise(seed, f"sample/{purpose}", 1, (4, LATENT, ROWS // 8, ROWS // 8))


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


@pytest.mark.parametrize(
    "final, steps, guidance, fps, padding",
    [
        ("zero", 36, 3.0, 30, True),
        ("sigma_min", 36, 7.0, 30, True),
        ("sigma_min", 5, 0.0, 12, False),
    ],
)
def test_text_to_world_gives_the_same_latents(
    cosmos: types.ModuleType,
    tmp_path: Path,
    final: str,
    steps: int,
    guidance: float,
    fps: int,
    padding: bool,
) -> None:
    source = build(tmp_path / "theirs", video=False, final=final, padding=padding)
    model = load_world_model(converted(source, tmp_path / "ours"))
    assert model.sampler.num_steps == 36 and model.sampler.final == final
    pipeline = opened(source, video=False)
    expected = pipeline(
        **COMMON,
        negative_prompt=NEGATIVE,
        guidance_scale=guidance,
        num_inference_steps=steps,
        fps=fps,
        latents=noise_of(model, "initial"),
        output_type="latent",
    ).frames
    found = ours(model, pipeline, steps=steps, guidance=guidance, fps=float(fps))
    assert relative(found, expected) < 1e-4


def frames(count: int) -> list[Any]:
    from PIL import Image

    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (count, ROWS, ROWS, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(each.numpy()) for each in pixels]


@pytest.mark.parametrize(
    "given, final, guidance", [(1, "zero", 0.0), (9, "zero", 3.0), (9, "sigma_min", 7.0)]
)
def test_video_to_world_gives_the_same_latents(
    cosmos: types.ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: int,
    final: str,
    guidance: float,
) -> None:
    """With the condition noise held; theirs redraws it at every step (the last assertion)."""
    import diffusers.pipelines.cosmos.pipeline_cosmos_video2world as theirs

    source = build(tmp_path / "theirs", video=True, final=final)
    folder = converted(source, tmp_path / "ours")
    model, tokenizer = load_world_model(folder), load_tokenizer(folder / "tokenizer")
    pipeline = opened(source, video=True)
    call = {
        **COMMON,
        "video": frames(given),
        "negative_prompt": NEGATIVE,
        "guidance_scale": guidance,
        "num_inference_steps": 12,
        "fps": 24,
        "latents": noise_of(model, "initial"),
        "output_type": "latent",
    }
    redrawn = pipeline(**call, generator=torch.Generator().manual_seed(1)).frames
    monkeypatch.setattr(theirs, "randn_tensor", lambda *_, **__: noise_of(model, "condition"))
    expected = pipeline(**call).frames
    pixels = pipeline.video_processor.preprocess_video(frames(given), ROWS, ROWS)
    with torch.no_grad():
        condition = tokenizer.encode(pixels)
    found = ours(model, pipeline, steps=12, guidance=guidance, fps=24.0, condition=condition)
    assert relative(found, expected) < 1e-4
    count = condition.shape[2]
    assert count == 1 + (given - 1) // 8
    if final == "zero":  # else the state at sigma_min, given frames included
        assert torch.allclose(found[:, :, :count], model.normalise(condition), atol=1e-5)
    assert 1e-6 < relative(redrawn, expected) < 0.05


def test_pixels_agree_too(cosmos: types.ModuleType, tmp_path: Path) -> None:
    source = build(tmp_path / "theirs", video=False)
    folder = converted(source, tmp_path / "ours")
    model, tokenizer = load_world_model(folder), load_tokenizer(folder / "tokenizer")
    pipeline = opened(source, video=False)
    expected = pipeline(
        **COMMON,
        negative_prompt=NEGATIVE,
        guidance_scale=2.0,
        num_inference_steps=4,
        latents=noise_of(model, "initial"),
        output_type="pt",
    ).frames
    found = ours(model, pipeline, steps=4, guidance=2.0, fps=30.0)
    with torch.no_grad():
        video = tokenizer.decode(model.denormalise(found)).clamp(-1, 1)
    # theirs went through 8 bits for the safety checker
    assert (video[0].transpose(0, 1) / 2 + 0.5 - expected[0]).abs().max() < 1.5 / 255


@pytest.mark.parametrize("video", [False, True])
def test_there_and_back(cosmos: types.ModuleType, tmp_path: Path, video: bool) -> None:
    """Pipeline → ours → pipeline → ours: equal weights and numbers; theirs opens and runs."""
    source = build(tmp_path / "theirs", video=video, final="sigma_min")
    first = converted(source, tmp_path / "ours", size=(32, 32), num_frames=17, fps=24.0)
    again = converted(first, tmp_path / "theirs2", "diffusers")
    last = converted(again, tmp_path / "ours2", size=(32, 32), num_frames=17, fps=24.0)
    for name in ("model.safetensors", "tokenizer/model.safetensors"):
        if name != "model.safetensors":
            assert (first / name).read_bytes() == (last / name).read_bytes()
    assert read_json(first / "config.json") == read_json(last / "config.json")
    a, b = load_world_model(first), load_world_model(last)
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name]), name
    pipeline, original = opened(again, video=video), opened(source, video=video)
    for part in ("transformer", "vae", "text_encoder"):
        wanted = getattr(original, part).state_dict()
        for name, tensor in getattr(pipeline, part).state_dict().items():
            assert torch.equal(tensor, wanted[name]), name
    assert torch.equal(pipeline.encode_prompt(PROMPT)[0], original.encode_prompt(PROMPT)[0])
    assert pipeline.scheduler.config.final_sigmas_type == "sigma_min"
    assert (first / "text_encoder" / "config.json").is_file() and text_folders(first)


def test_a_world_without_t5_becomes_a_pipeline_for_embeddings(
    cosmos: types.ModuleType, tmp_path: Path
) -> None:
    source = build(tmp_path / "theirs", video=False)
    first = converted(source, tmp_path / "ours")
    for file in (first / "text_encoder").iterdir():
        file.unlink()
    config = read_world(ConvertWorldConfig(source=str(first), out=str(tmp_path / "x")))
    # statistics of two columns: the pipelines crop, so the last is repeated for them
    config.model.set_latent_statistics(torch.randn(4, 2), torch.rand(4, 2) + 0.5)
    lines = write_world(config, tmp_path / "x", "diffusers")
    assert any("prompt_embeds" in line for line in lines)
    pipeline = opened(tmp_path / "x", video=False, text_encoder=None, tokenizer=None)
    embeddings = torch.randn(1, 512, 24)
    expected = pipeline(
        height=ROWS,
        width=ROWS,
        num_frames=FRAMES,
        prompt_embeds=embeddings,
        guidance_scale=1.0,
        num_inference_steps=4,
        fps=24,
        latents=noise_of(config.model, "initial"),
        output_type="latent",
    ).frames
    found = config.model.generate_latents(
        condition=None,
        num_latent_frames=LATENT,
        text=embeddings,
        fps=torch.tensor([24.0]),
        seed=3,
        size=(ROWS // 8, ROWS // 8),
        sampler=replace(config.model.sampler, num_steps=4, guidance=0.0),
    )
    assert relative(config.model.normalise(found), expected) < 1e-4
    mean = torch.tensor(pipeline.vae.config.latents_mean).view(4, -1)
    assert mean.shape[1] == 8 and torch.equal(mean[:, 1], mean[:, 7])


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("transformer/config.json", {"_class_name": "DiT"}, "must be CosmosTransformer3DModel"),
        ("transformer/config.json", {"in_channels": 9}, "one condition mask at most"),
        ("transformer/config.json", {"num_layers": 3}, "missing transformer_blocks.2"),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "must be epsilon"),
        ("scheduler/scheduler_config.json", {"sigma_schedule": "exponential"}, "must be karras"),
        ("scheduler/scheduler_config.json", {"final_sigmas_type": "two"}, "sampler.final=two"),
        ("vae/config.json", {"latents_std": [1.0]}, "latents_std"),
    ],
)
def test_a_folder_that_does_not_fit(
    tmp_path: Path, file: str, change: dict[str, object], message: str
) -> None:
    source = build(tmp_path / "theirs", video=False)
    write_json(source / file, {**read_json(source / file), **change})
    with pytest.raises(ValueError, match=message):
        read_world(ConvertWorldConfig(source=str(source), out=str(tmp_path / "out")))


def test_transformer_in_shards(cosmos: types.ModuleType, tmp_path: Path) -> None:
    source = build(tmp_path / "theirs", video=False) / "transformer"
    whole = read_transformer(source)
    import diffusers

    module = diffusers.CosmosTransformer3DModel.from_pretrained(source)
    module.save_pretrained(tmp_path / "cut", max_shard_size="60KB")
    parts = sorted((tmp_path / "cut").glob("*.safetensors"))
    assert len(parts) > 1
    cut = read_transformer(tmp_path / "cut")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, cut.state_dict()[name])
    parts[0].unlink()
    with pytest.raises(ValueError, match="no such file beside it"):
        read_transformer(tmp_path / "cut")


def test_the_scheduler_of_the_pipelines(tmp_path: Path) -> None:
    sampler, sigma_data = read_scheduler(build(tmp_path / "theirs", video=False) / "scheduler")
    assert (sampler.sigma_min, sampler.sigma_max, sampler.rho, sigma_data) == (0.002, 80, 7, 0.5)
