"""Published sizes, counted on the meta device, and their YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from openwfm.diffusion import DiT, DiTConfig, preset
from openwfm.diffusion.presets import PRESETS

CONF = Path(__file__).parents[2] / "conf" / "model" / "net"


def built(name: str) -> DiT:
    with torch.device("meta"):
        return DiT(preset(name))


@pytest.mark.parametrize(
    "name, count, inputs",
    [
        ("dit_7b_text2world", 7_236_192_256, 68),
        ("dit_7b_video2world", 7_236_208_640, 72),
        ("dit_14b_text2world", 14_267_149_312, 68),
        ("dit_14b_video2world", 14_267_169_792, 72),
        ("dit_7b_text2world_multiview", 7_234_783_280, 92),
        ("dit_7b_video2world_multiview", 7_234_799_664, 96),
        ("dit_7b_decoder", 7_237_257_216, 196),
    ],
)
def test_published_parameter_counts_and_patch_widths(name: str, count: int, inputs: int) -> None:
    net = built(name)
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    assert net.patch_in.in_features == inputs == 4 * net.config.input_channels


def test_parameters_of_a_block() -> None:
    """14 D² + 5120 D + 512 with text 1024 wide and rank 256."""
    for name, width in (("dit_7b_text2world", 4096), ("dit_14b_text2world", 5120)):
        count = sum(parameter.numel() for parameter in built(name).blocks[0].parameters())
        assert count == 14 * width**2 + 5120 * width + 512


def test_the_decoder_is_the_text_to_world_network_with_codes_and_without_tables() -> None:
    """49 input channels: 16 of the noisy latent, 32 of the code, 1 of padding."""
    base = 7_236_192_256 - 368 * 4096
    assert base + 64000 * 32 + 32 * 4 * 4096 == 7_237_257_216
    net = built("dit_7b_decoder")
    assert net.codes is not None and net.position is None
    assert tuple(net.codes.embedding.weight.shape) == (64000, 32)
    assert net.config.rope_scale == (1.0, 1.5, 1.5)


def test_ours_fit_where_they_should() -> None:
    counts = {
        name: sum(parameter.numel() for parameter in built(name).parameters())
        for name in ("dit_nano", "dit_micro")
    }
    assert counts["dit_nano"] < 9.9e6 and 80e6 < counts["dit_micro"] < 200e6


@pytest.mark.parametrize("path", sorted(CONF.glob("dit*.yaml")), ids=lambda path: path.stem)
def test_yaml_equals_preset(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    assert values.pop("_target_") == "openwfm.diffusion.config.DiTConfig"
    assert set(values) == set(DiTConfig.__dataclass_fields__)
    assert DiTConfig(**values) == PRESETS[path.stem]


def test_every_preset_has_yaml() -> None:
    assert {path.stem for path in CONF.glob("dit*.yaml")} == set(PRESETS)


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="dit_nano"):
        preset("dit_nan0")
