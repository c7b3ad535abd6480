"""Rules of the tokenizer's config, the table of presets and the YAML beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, preset
from openwfm.tokenizer.objective import ReconstructionConfig
from openwfm.tokenizer.presets import PRESETS

CONF = Path(__file__).parents[2] / "conf" / "model"

# Counts of the release's own networks, without buffers.
PARAMETERS = {
    "cv8x8x8": 105_653_696,
    "cv8x16x16": 110_898_624,
    "cv4x8x8": 73_192_128,
    "cv4x8x8_360p": 110_208_816,
    "dv8x8x8": 105_653_366,
    "dv8x16x16": 110_898_294,
    "dv4x8x8": 104_669_558,
    "dv4x8x8_360p": 112_619_766,
    "ci8x8": 76_789_472,
    "ci16x16": 81_509_088,
    "ci8x8_360p": 81_384_636,
    "ci16x16_360p": 84_334_524,
    "di8x8": 79_004_342,
    "di16x16": 83_723_958,
    "di8x8_360p": 83_599_506,
    "di16x16_360p": 86_549_394,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_equal_the_published(name: str) -> None:
    with torch.device("meta"):
        tokenizer = VideoTokenizer(preset(name))
    assert sum(p.numel() for p in tokenizer.parameters()) == PARAMETERS[name]
    assert not list(tokenizer.buffers())


def test_parts_of_cv8x8x8() -> None:
    with torch.device("meta"):
        tokenizer = VideoTokenizer(preset("cv8x8x8"))
    counts = [
        sum(p.numel() for p in part.parameters())
        for part in (tokenizer.encoder, tokenizer.decoder, tokenizer.to_latents)
    ]
    assert counts == [42_914_592, 62_738_560, 272]
    assert len(tokenizer.state_dict()) == 310


def test_every_size_is_published_or_nano() -> None:
    assert {name for name in PRESETS if not name.endswith("_nano")} == set(PARAMETERS)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("_nano")])
def test_nano_fits_its_budget(name: str) -> None:
    with torch.device("meta"):
        tokenizer = VideoTokenizer(preset(name))
    assert sum(p.numel() for p in tokenizer.parameters()) * 4 <= 8 * 2**20


@pytest.mark.parametrize("name", PRESETS)
def test_yaml_equals_the_table(name: str) -> None:
    values = yaml.safe_load((CONF / "net" / f"{name}.yaml").read_text())
    assert values.pop("_target_") == "openwfm.tokenizer.config.TokenizerConfig"
    assert set(values) == set(asdict(PRESETS[name])), "every value is explicit"
    assert TokenizerConfig(**values) == PRESETS[name]


def test_objective_yaml_is_the_default() -> None:
    values = yaml.safe_load((CONF / "objective" / "reconstruction.yaml").read_text())
    assert values.pop("_target_") == "openwfm.tokenizer.objective.ReconstructionConfig"
    assert ReconstructionConfig(**values) == ReconstructionConfig()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"temporal_compression": 6}, "temporal_compression=6: must be one of 1, 4, 8, 16, 32"),
        ({"spatial_compression": 4, "temporal_compression": 8}, "at most spatial_compression=4"),
        ({"patch_size": 3}, "patch_size=3: must be one of 2, 4"),
        ({"channels": 0}, "channels=0: must be a positive integer"),
        ({"channels": 128.0}, "channels=128.0: must be a positive integer"),
        ({"num_res_blocks": True}, "num_res_blocks=True: must be a positive integer"),
        ({"channels_mult": (2, 0, 4)}, r"channels_mult\[1\]=0: must be a positive integer"),
        ({"channels_mult": 2}, "channels_mult=2: must be a list"),
        ({"channels_mult": (2, 4)}, "must have at least 3 levels"),
        ({"channels_mult": ()}, "must have at least 3 levels"),
        ({"spatial_compression": 32}, "must have at least 4 levels"),
        ({"num_groups": 3}, "num_groups=3: must divide every width, so 128"),
        ({"fsq_levels": 8}, "fsq_levels=8: must be a list"),
        ({"fsq_levels": (8, 5)}, "latent_channels=16: must be 2, one for each of fsq_levels"),
        ({"fsq_levels": (8, 1), "latent_channels": 2}, r"fsq_levels\[1\]=1: must be at least 2"),
        ({"fsq_levels": (8,) * 16}, "their product 281474976710656 must be at most 2147483647"),
        ({"attention_window": 0}, "attention_window=0: must be a positive integer"),
        ({"attention_window": 2, "temporal_compression": 1}, "attention_window=2: must be null"),
        (
            {"temporal_compression": 1, "spatial_compression": 32, "channels_mult": (1, 2)},
            "must have at least 3 levels",
        ),
    ],
)
def test_bad_values_name_key_value_and_rule(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"tokenizer\\..*{message}"):
        TokenizerConfig(**values)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"l1": -1.0}, "objective.l1=-1.0: must be at least 0"),
        ({"perceptual": float("nan")}, "objective.perceptual=nan: must be at least 0"),
        ({"l1": 0.0, "perceptual": 0.0}, "objective.l1=0: must be positive"),
        ({"perceptual_frames": 0}, "perceptual_frames=0: must be at least 1"),
        ({"perceptual": {-1: 0.1}}, "objective.perceptual: step -1: must be an integer"),
    ],
)
def test_bad_objectives(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReconstructionConfig(**values)


def test_lists_become_tuples() -> None:
    assert TokenizerConfig(channels_mult=[2, 4, 4]) == TokenizerConfig()  # type: ignore[arg-type]


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="nearest: cv8x8x8"):
        preset("CV8x8x9")
