"""Our DiT against diffusers' with the same random weights, and strict conversion both ways."""

from __future__ import annotations

import types
from dataclasses import replace

import pytest
import torch

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.dit import DiT
from openwfm.interop.dit import (
    export_nvidia_dit,
    from_diffusers_dit,
    load_nvidia_dit,
    to_diffusers_dit,
)
from openwfm.interop.dit_names import release_names

TINY = DiTConfig(
    width=256,
    num_blocks=2,
    num_heads=2,
    adaln_rank=32,
    text_width=48,
    max_size=(8, 32, 32),
)


def random_net(config: DiTConfig, seed: int = 0) -> DiT:
    """Every parameter random, so that no zero initialisation hides a path."""
    generator = torch.Generator().manual_seed(seed)
    net = DiT(config).eval()
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 0.05 if parameter.ndim > 1 else 0.3
        parameter.data = noise * scale + (1.0 if parameter.ndim == 1 else 0.0)
    return net


@pytest.mark.parametrize(
    "batch, frames, rows, columns", [(1, 3, 8, 12), (2, 1, 4, 6), (3, 5, 6, 4)]
)
@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("fps", [24, 10])
def test_equals_diffusers(
    cosmos: types.ModuleType,
    batch: int,
    frames: int,
    rows: int,
    columns: int,
    condition: bool,
    padding: bool,
    fps: int,
) -> None:
    scale = (2.0, 1.0, 1.0) if fps == 24 else (1.0, 2.0, 1.5)
    config = replace(TINY, condition_mask=condition, padding_mask=padding, rope_scale=scale)
    ours = random_net(config)
    theirs = to_diffusers_dit(ours)
    latents = torch.randn(batch, 16, frames, rows, columns)
    text = torch.randn(batch, 7, 48)
    c_noise = torch.linspace(-1.5, 1.1, batch)
    mask = torch.zeros(batch, 1, frames, rows, columns)
    mask[:, :, :1] = 1
    pixels = (torch.rand(1, 1, rows * 8, columns * 8) > 0.5).float()
    with torch.no_grad():
        expected = theirs(
            latents,
            c_noise,
            text,
            fps=fps,
            condition_mask=mask if condition else None,
            padding_mask=pixels if padding else None,
            return_dict=False,
        )[0]
        found = ours(
            latents,
            c_noise,
            text=text,
            fps=torch.full((batch,), float(fps)),
            condition_mask=mask if condition else None,
            padding_mask=pixels if padding else None,
        )
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def test_no_position_embedding_equals_diffusers(cosmos: types.ModuleType) -> None:
    ours = random_net(
        replace(TINY, position_embedding="none", padding_mask=False, condition_mask=False)
    )
    latents, text = torch.randn(2, 16, 2, 4, 4), torch.randn(2, 5, 48)
    level = torch.tensor([0.3, -0.2])
    with torch.no_grad():
        expected = to_diffusers_dit(ours)(latents, level, text, fps=24, return_dict=False)[0]
        found = ours(latents, level, text=text, fps=24.0)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def test_diffusers_round_trip(cosmos: types.ModuleType) -> None:
    ours = random_net(TINY)
    back = from_diffusers_dit(to_diffusers_dit(ours))
    assert back.config == TINY and not back.training
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name]), name


@pytest.mark.parametrize("condition", [False, True])
def test_release_round_trip_reads_sizes_from_shapes(condition: bool) -> None:
    ours = random_net(replace(TINY, condition_mask=condition))
    released = export_nvidia_dit(ours)
    released["net.pos_embedder.seq"] = torch.arange(128)
    released["net.blocks.block0.blocks.0.block.attn._extra_state"] = torch.zeros(0)
    released["logvar.1.weight"] = torch.zeros(1, 128)
    back = load_nvidia_dit(released)
    assert back.config == ours.config
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name]), name


def test_release_names_are_those_of_the_reference() -> None:
    names = {key for keys in release_names(TINY).values() for key in keys}
    assert "blocks.block1.blocks.1.block.attn.to_q.1.weight" in names
    assert "blocks.block0.blocks.0.block.attn.to_out.0.weight" in names
    assert "affline_norm.weight" in names and "extra_pos_embedder.pos_emb_h" in names
    assert len(names) == 7 + 3 + 2 * (6 + 2 * 6 + 2)


@pytest.mark.parametrize(
    "key, change, message",
    [
        ("net.affline_norm.weight", None, "missing affline_norm.weight"),
        ("net.view_embeddings.weight", (6, 6), "unknown view_embeddings.weight"),
        ("net.t_embedder.1.linear_1.weight", (4, 4), "misshapen level.linear_1.weight"),
        ("net.x_embedder.proj.1.weight", None, "missing x_embedder.proj.1.weight"),
        ("net.x_embedder.proj.1.weight", (256, 92), "must be 0 or 1"),
    ],
)
def test_strict(key: str, change: tuple[int, int] | None, message: str) -> None:
    released = export_nvidia_dit(random_net(TINY))
    if change is None:
        del released[key]
    else:
        released[key] = torch.zeros(change)
    with pytest.raises(ValueError, match=message):
        load_nvidia_dit(released)
