"""Folders of diffusers' Cosmos 1 pipelines: a whole world, part by part.

``transformer``, ``vae`` (with latent statistics), ``scheduler``, and the text encoder with its
tokenizer, whose files are copied as they are. Reading needs no diffusers.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from openwfm.diffusion import DiffusionWorldModel, DiT
from openwfm.diffusion.config import SamplerConfig
from openwfm.extras import require
from openwfm.files import atomic_path, read_json, write_json
from openwfm.interop.diffusers_folder import read_shards, save_module, write_diffusers_tokenizer
from openwfm.interop.dit import dit_of_diffusers, to_diffusers_dit
from openwfm.tokenizer.autoencoder import VideoTokenizer
from openwfm.tokenizer.statistics import LatentStatistics
from openwfm.weights import CONFIG

INDEX = "model_index.json"
SCHEDULER = "scheduler_config.json"
PIPELINES = {False: "CosmosTextToWorldPipeline", True: "CosmosVideoToWorldPipeline"}
PIPELINE_STEPS = 36  # the pipelines' default; the folder does not say
GRIDS = {"zero": "to_zero", "sigma_min": "repeat_last"}  # our name of where the levels end
ENCODER_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model"),
    "added_tokens.json",
)


def is_pipeline(folder: Path | str) -> bool:
    """Whether a folder's index says that it is one of the two pipelines."""
    file = Path(folder) / INDEX
    index = read_json(file) if file.is_file() else None
    return isinstance(index, dict) and index.get("_class_name") in PIPELINES.values()


def read_transformer(folder: Path | str) -> DiT:
    """The network of a folder of ``CosmosTransformer3DModel``, strictly.

    Raises ValueError naming the file and every key, value or tensor that does not fit.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind != "CosmosTransformer3DModel":
        raise ValueError(f"{folder / CONFIG}: {kind}: must be CosmosTransformer3DModel")
    return dit_of_diffusers(config, read_shards(folder), str(folder))


def read_scheduler(folder: Path | str) -> tuple[SamplerConfig, float]:
    """The sampler of a pipeline's scheduler folder, and its sigma_data."""
    file = Path(folder) / SCHEDULER
    fields = {"sigma_schedule": "karras", "prediction_type": "epsilon", **read_json(file)}
    needed = {
        "_class_name": "EDMEulerScheduler",
        "sigma_schedule": "karras",
        "prediction_type": "epsilon",
    }
    for name, value in needed.items():
        if fields.get(name) != value:
            raise ValueError(f"{file}: {name}={fields.get(name)}: must be {value}")
    final = fields.get("final_sigmas_type", "zero")
    if final not in GRIDS:
        raise ValueError(f"{file}: final_sigmas_type={final}: must be one of {', '.join(GRIDS)}")
    sampler = SamplerConfig(
        kind="euler",
        num_steps=PIPELINE_STEPS,
        sigma_min=fields.get("sigma_min", 0.002),
        sigma_max=fields.get("sigma_max", 80.0),
        rho=fields.get("rho", 7.0),
        grid=GRIDS[final],
    )
    return sampler, float(fields.get("sigma_data", 0.5))


def write_pipeline(
    folder: Path | str,
    model: DiffusionWorldModel,
    tokenizer: VideoTokenizer,
    text: Path | None,
) -> list[str]:
    """A folder for ``CosmosTextToWorldPipeline`` or, of a network with a condition mask,
    ``CosmosVideoToWorldPipeline``; returns lines on what a reader should know.

    Raises ValueError for a world that the pipelines cannot express.
    """
    folder, sampler = Path(folder), model.sampler
    diffusers = require("diffusers", extra="diffusers")
    transformer = to_diffusers_dit(model.net)  # first: it refuses what cannot be expressed
    if sampler.kind != "euler" or sampler.grid == "extra_point":
        raise ValueError(
            f"sampler.kind={sampler.kind}, grid={sampler.grid}: must be euler without extra_point "
            "for diffusers' scheduler"
        )
    scheduler = diffusers.EDMEulerScheduler(
        sigma_min=sampler.sigma_min,
        sigma_max=sampler.sigma_max,
        sigma_data=model.objective.sigma_data,
        rho=sampler.rho,
        final_sigmas_type="sigma_min" if sampler.grid == "repeat_last" else "zero",
    )
    if text is not None:
        copy_text(text, folder / "text_encoder", folder / "tokenizer")
    save_module(folder / "transformer", transformer)
    write_diffusers_tokenizer(folder / "vae", tokenizer, _statistics(model))
    scheduler.save_pretrained(folder / "scheduler")
    name = PIPELINES[model.net.config.condition_mask]
    parts: dict[str, Any] = {
        "_class_name": name,
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "EDMEulerScheduler"],
        "transformer": ["diffusers", "CosmosTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCosmos"],
        "text_encoder": ["transformers", "T5EncoderModel"] if text else [None, None],
        "tokenizer": ["transformers", "T5TokenizerFast"] if text else [None, None],
        "safety_checker": [None, None],
    }
    write_json(folder / INDEX, parts)
    lines = [f"{name}: call it with num_inference_steps={sampler.num_steps}"]
    if text is None:
        lines.append(
            "no text encoder: give text=FOLDER, or open it with text_encoder=None, tokenizer=None "
            "and call it with prompt_embeds"
        )
    return lines


def _statistics(model: DiffusionWorldModel) -> LatentStatistics:
    """Those of training. The pipelines crop columns and never repeat the last one, so repeat it
    here for as many latent frames as the network takes."""
    model.check_statistics()
    mean, std = model.latent_mean, model.latent_std
    if mean.shape[1] > 1:
        columns = torch.arange(max(mean.shape[1], model.net.config.max_size[0]))
        columns = columns.clamp(max=mean.shape[1] - 1)
        mean, std = mean[:, columns], std[:, columns]
    return LatentStatistics.of_frames(mean, std, {})


def text_folders(folder: Path) -> tuple[Path, Path] | None:
    """Where the text encoder and its tokenizer are: in ``text_encoder/`` and ``tokenizer/``, both
    in ``text_encoder/``, or both in ``folder`` itself; None where there is neither."""
    inner = folder / "text_encoder"
    for encoder, tokenizer in ((inner, folder / "tokenizer"), (inner, inner), (folder, folder)):
        whole = (encoder / CONFIG).is_file() and _files(encoder, ("*.safetensors",))
        if whole and _files(tokenizer, ("tokenizer.json", "spiece.model")):
            return encoder, tokenizer
    return None


def copy_text(source: Path, encoder: Path, tokenizer: Path) -> None:
    """Copy a text encoder and its tokenizer, safetensors and tables only.

    Raises ValueError when ``source`` is none of the layouts of `text_folders`.
    """
    found = text_folders(source)
    if found is None:
        raise ValueError(
            f"convert.text={source}: must hold config.json and safetensors of a T5 encoder, and "
            "tokenizer.json or spiece.model (in text_encoder/ and tokenizer/, or all in one)"
        )
    for origin, target, patterns in zip(
        found, (encoder, tokenizer), (ENCODER_FILES, TOKENIZER_FILES), strict=True
    ):
        for file in _files(origin, patterns):
            with atomic_path(target / file.name) as temporary:
                shutil.copyfile(file, temporary)


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted(file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
