"""Folders of diffusers' pipelines: there and back, and what does not fit."""

from __future__ import annotations

import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openwfm.diffusion import load_world_model
from openwfm.files import read_json, write_json
from openwfm.interop.diffusers_pipeline import read_scheduler, read_transformer, text_folders
from openwfm.interop.world_convert import ConvertWorldConfig, read_world, write_world
from tests.interop.tiny_pipelines import (
    FRAMES,
    LATENT,
    PROMPT,
    ROWS,
    build,
    converted,
    noise_of,
    opened,
    relative,
)

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the two libraries, on their own code


@pytest.mark.parametrize("video", [False, True])
def test_there_and_back(cosmos: types.ModuleType, tmp_path: Path, video: bool) -> None:
    """Pipeline → ours → pipeline → ours: equal weights and numbers; theirs opens and runs."""
    source = build(tmp_path / "theirs", video=video, final="sigma_min")
    first = converted(source, tmp_path / "ours", size=(32, 32), num_frames=17, fps=24.0)
    again = converted(first, tmp_path / "theirs2", "diffusers")
    last = converted(again, tmp_path / "ours2", size=(32, 32), num_frames=17, fps=24.0)
    name = "tokenizer/model.safetensors"
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
    assert relative(config.model.normalise(found), expected) < 1e-5
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
        ("scheduler/scheduler_config.json", {"final_sigmas_type": "two"}, "final_sigmas_type=two"),
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
