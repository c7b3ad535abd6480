"""From stage to stage: position tables, strictness, and the published plan on the meta device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.config import build, compose
from openwfm.data.config import DataConfig
from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.dit import DiT
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.diffusion.stages import differing, resize_table, start_from
from openwfm.weights import save_weights

NET = DiTConfig(
    width=32, num_blocks=1, num_heads=1, adaln_rank=4, text_width=6, in_channels=4, out_channels=4,
    max_size=(2, 4, 4), padding_mask=False, condition_mask=False, rope_scale=(1.0, 1.0, 1.0),
)  # fmt: skip
LARGER = replace(NET, max_size=(4, 8, 4), rope_scale=(2.0, 1.0, 1.0))


def model(net: DiTConfig, seed: int) -> DiffusionWorldModel:
    torch.manual_seed(seed)
    built = DiffusionWorldModel(
        net=net,
        objective=EdmConfig(),
        conditioner=ConditionerConfig(text_width=6),
        sampler=SamplerConfig(),
    )
    built.set_latent_statistics(torch.randn(4, 2), torch.rand(4, 2) + 0.1)
    return built


@pytest.fixture
def first(tmp_path: Path) -> tuple[DiffusionWorldModel, Path]:
    built = model(NET, 1)
    save_weights(tmp_path, built.export_config(), built.state_dict())
    return built, tmp_path


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_a_position_keeps_its_row(rows: int, length: int, later: int) -> None:
    table = torch.randn(rows, 3)
    found = resize_table(table, length)
    assert found.shape == (length, 3)
    shared = min(rows, length)
    assert torch.equal(found[:shared], table[:shared])
    assert (found[shared:] == table[-1]).all()
    if length >= rows:
        assert torch.equal(resize_table(found, rows), table)
        assert torch.equal(resize_table(found, length + later), resize_table(table, length + later))


def test_a_stage_begins_where_the_last_one_ended(first: tuple[DiffusionWorldModel, Path]) -> None:
    before, folder = first
    after = model(LARGER, 2)
    start_from(after, folder, resize=True)
    assert torch.equal(after.latent_mean, before.latent_mean)
    same_ratio = model(replace(LARGER, rope_scale=NET.rope_scale), 3)
    start_from(same_ratio, folder, resize=True)
    latents, text = torch.randn(2, 4, 2, 4, 4), torch.randn(2, 3, 6)
    outputs = [
        built.net(latents, torch.zeros(2), text=text, fps=24.0) for built in (before, same_ratio)
    ]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    assert (
        after.net(torch.randn(1, 4, 4, 8, 4), torch.zeros(1), text=text[:1], fps=24.0)
        .isfinite()
        .all()
    )


def test_what_may_not_differ_is_named(first: tuple[DiffusionWorldModel, Path]) -> None:
    _, folder = first
    with pytest.raises(ValueError, match=r"net\.max_size=\(4, 8, 4\), there.*model\.resize=true"):
        start_from(model(LARGER, 2), folder, resize=False)
    for resize in (False, True):
        with pytest.raises(ValueError, match=r"net\.adaln_rank=8, there 4") as error:
            start_from(model(replace(LARGER, adaln_rank=8), 2), folder, resize=resize)
        assert "resize=true" not in str(error.value) or not resize
    start_from(model(NET, 2), folder, resize=False)
    assert differing(LARGER, NET, ()) == ["rope_scale", "max_size"]


def stage(name: str) -> tuple[DiTConfig, DataConfig]:
    overrides = [f"experiment={name}", "data.config.shards=x", "paths.run=x"]
    config = compose("train", overrides)
    return build(config.model.net), build(config.data.config)


@pytest.mark.parametrize(
    "name, frames, tokens",
    [
        ("stage_7b_1_512p", 57, 10_240),
        ("stage_7b_2_720p", 121, 56_320),
        ("stage_7b_3_cooldown", 121, 56_320),
    ],
)
def test_published_stages(name: str, frames: int, tokens: int) -> None:
    """Context lengths of table 12; every bucket within six in a hundred of its size; 7 billion."""
    net, data = stage(name)
    assert data.num_frames == frames
    latent_frames = 1 + (frames - 1) // 8
    lengths = [latent_frames * rows * columns // 256 for rows, columns in data.buckets]
    assert lengths[0] == tokens
    # 4:3 at 720p is 960x704 in the release: three quarters of the others.
    assert all(0.73 * tokens < length < 1.06 * tokens for length in lengths)
    assert all(rows % 16 == 0 == columns % 16 for rows, columns in data.buckets)
    with torch.device("meta"):
        built = DiT(net)
    for rows, columns in data.buckets:
        built._grid(torch.empty(1, 16, latent_frames, rows // 8, columns // 8, device="meta"))
    assert sum(p.numel() for p in built.parameters()) == sum(
        p.numel() for p in DiT_7b().parameters()
    )


def DiT_7b() -> DiT:
    from openwfm.diffusion.presets import preset

    with torch.device("meta"):
        return DiT(preset("dit_7b_text2world"))


@pytest.mark.parametrize(
    "before, after",
    [
        ("stage_7b_1_512p", "stage_7b_2_720p"),
        ("stage_7b_2_720p", "stage_7b_3_cooldown"),
        ("stage_nano_1", "stage_nano_2"),
        ("stage_nano_2", "stage_nano_3"),
    ],
)
def test_each_stage_starts_from_the_last(before: str, after: str) -> None:
    config = compose("train", [f"experiment={after}", "data.config.shards=x", "paths.run=x"])
    assert config.model.weights == f"runs/{before}/weights"
    free = ("max_size", "rope_scale") if config.model.resize else ()
    assert not differing(stage(after)[0], stage(before)[0], free)
