"""Tokens to latents by diffusion: training, windows, and what is published."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from openwfm.data.batch import VideoBatch
from openwfm.diffusion import load_world_model
from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.decoder import cut, decode_codes, ramps
from openwfm.diffusion.module import DiffusionModule
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, load_tokenizer
from openwfm.weights import plain, save_weights

NET = DiTConfig(
    width=64, num_blocks=2, num_heads=2, adaln_rank=8, text_width=12, in_channels=16,
    condition_mask=False, padding_mask=False, max_size=(8, 16, 16), zero_init_output=True,
    position_embedding="none", codebook=16, code_channels=6,
)  # fmt: skip
CONDITIONER = ConditionerConfig(
    text_encoder="none", text_width=12, text_tokens=1, text_dropout=0.0, codes_dropout=0.3
)
SMALL: dict[str, Any] = {
    "channels": 8, "channels_mult": (1, 1, 1), "num_res_blocks": 1, "z_channels": 16,
}  # fmt: skip
FRAMES = 17


def publish(folder: Path, config: TokenizerConfig) -> str:
    torch.manual_seed(0)
    net = VideoTokenizer(config)
    for parameter in net.parameters():
        parameter.data *= 1.5
    save_weights(folder, {"kind": "tokenizer", "net": plain(asdict(config))}, net.state_dict())
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("tokenizers")
    discrete = TokenizerConfig(**SMALL, latent_channels=2, fsq_levels=(4, 4))
    coarse = replace(discrete, channels_mult=(1, 1, 1, 1), spatial_compression=16)
    return {
        "tokenizer": publish(root / "cv", TokenizerConfig(**SMALL)),
        "codes": publish(root / "dv", discrete),
        "coarse": publish(root / "dv16", coarse),
    }


def build(folders: dict[str, str], **changes: Any) -> DiffusionModule:
    values: dict[str, Any] = {
        "net": NET,
        "objective": EdmConfig(),
        "conditioner": CONDITIONER,
        "sampler": SamplerConfig(num_steps=3, guidance=0.0),
        "tokenizer": folders["tokenizer"],
        "codes": folders["codes"],
        "optimizer": partial(torch.optim.AdamW, lr=3e-3),
        "scheduler": None,
        "weights": None,
        "seed": 7,
        **changes,
    }
    return DiffusionModule(**values)


def batch() -> VideoBatch:
    video = torch.rand(4, 3, FRAMES, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return VideoBatch(key=tuple("abcd"), fps=torch.full((4,), 24.0), video=video)


@pytest.fixture(scope="module")
def trained(folders: dict[str, str]) -> DiffusionModule:
    module, item = build(folders), batch()
    latents = module.encode_latents(item.video)
    cached = replace(item, video=None, latents=latents.half())
    module.set_latent_statistics(latents.mean((0, 3, 4)), latents.std((0, 3, 4)) + 1e-3)
    loader: DataLoader[Any] = DataLoader([cached], batch_size=None)
    trainer = L.Trainer(
        max_steps=120, val_check_interval=120, check_val_every_n_epoch=None,
        accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer.fit(module, loader, loader)
    return module


def test_it_learns_what_the_tokens_stand_for(trained):
    """Decoded from their own tokens, clips are nearer to themselves than to others (but one)."""
    item, model = batch(), trained.world_model
    latents, tokens = trained.raw_latents(item), trained.tokens(item)
    made = decode_codes(model, tokens, size=(4, 4), fps=item.fps, seed=0)
    clean, found = model.normalise(latents), model.normalise(made)
    distance = (clean[:, None] - found[None]).square().mean((2, 3, 4, 5))
    assert (distance.argmin(0) == torch.arange(4)).sum() >= 3
    assert float(distance.diagonal().mean()) < 0.7 * float(distance.mean())
    # Sample i depends on its number, not on the batch; the same tokens give the same clip.
    alone = decode_codes(model, tokens[:1], size=(4, 4), fps=item.fps[:1], seed=0)
    torch.testing.assert_close(alone, made[:1], rtol=1e-4, atol=1e-5)


def test_a_cache_holds_the_tokens_behind_the_latents(folders):
    module, item = build(folders), batch()
    stored = module.encode_latents(item.video).half()
    assert stored.shape[1] == 18
    cached = replace(item, video=None, latents=stored)
    assert torch.equal(module.tokens(cached), module.tokens(item))
    torch.testing.assert_close(
        module.raw_latents(cached), module.raw_latents(item), rtol=1e-2, atol=1e-2
    )
    assert module.tokenizer_sha256 != build(folders, net=_plain(), codes=None).tokenizer_sha256


def _plain() -> DiTConfig:
    return replace(NET, codebook=0, code_channels=0)


def test_tokens_of_a_coarser_grid_are_resized_but_not_cached(folders):
    module = build(folders, codes=folders["coarse"])
    item = replace(batch(), video=torch.zeros(4, 3, FRAMES, 64, 64))
    assert module.tokens(item).shape == (4, 3, 4, 4)
    module.set_latent_statistics(torch.zeros(16, 1), torch.ones(16, 1))
    draws = module.world_model.draw(torch.Size((4, 16, 3, 8, 8)), torch.Generator())
    assert torch.isfinite(module._loss(item, module.raw_latents(item), draws)[0])
    with pytest.raises(ValueError, match="a cache takes one grid"):
        module.encode_latents(item.video)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_embeddings_begin_as_the_codes(folders, channels):
    module = build(folders, net=replace(NET, code_channels=channels))
    table = module.world_model.net.codes.embedding.weight
    tokenizer = load_tokenizer(folders["codes"])
    for token in range(16):
        code = tokenizer.codes(torch.full((1, 1, 1, 1), token, dtype=torch.int32)).flatten()
        torch.testing.assert_close(table[token, :2].detach(), code[:channels])
    assert not table[:, 2:].any()


def test_dropped_tokens_are_token_zero(folders):
    module, item = build(folders), batch()
    conditioner, tokens = module.world_model.conditioner, module.tokens(item) + 1
    latents = module.raw_latents(item)
    draws = module.world_model.draw(latents.shape, torch.Generator().manual_seed(3)).condition
    draws = replace(draws, keep_codes=torch.tensor([True, False, True, False]))
    made = conditioner.training(
        latents, draws, text=None, fps=item.fps, padding_mask=None, codes=tokens
    )
    assert torch.equal(made.codes[::2], tokens[::2])
    assert not made.codes[1::2].any()
    twice = made.with_unconditional()
    assert torch.equal(twice.codes[:4], made.codes)
    assert not twice.codes[4:].any()


@pytest.mark.parametrize(
    ("frames", "window", "overlap"), [(3, 8, 2), (8, 8, 2), (9, 8, 2), (20, 8, 2), (7, 3, 2)]
)
def test_windows_cover_every_frame_and_their_weights_sum_to_one(frames, window, overlap):
    parts = cut(frames, window, overlap)
    weights = ramps(parts, frames)
    assert parts[0][0] == 0
    assert parts[-1][1] == frames
    for (_, stop), (start, _) in zip(parts, parts[1:], strict=False):
        assert stop - start >= overlap
    torch.testing.assert_close(weights.sum(0), torch.ones(frames))
    for weight, (start, stop) in zip(weights, parts, strict=True):
        assert (weight[start:stop] > 0).all()
        assert weight.sum() == weight[start:stop].sum()


def test_ramps_in_closed_form():
    parts = cut(10, 6, 2)
    assert parts == [(0, 6), (4, 10)]
    third = torch.tensor([1, 1, 1, 1, 2 / 3, 1 / 3, 0, 0, 0, 0])
    torch.testing.assert_close(ramps(parts, 10)[0], third)
    torch.testing.assert_close(ramps(parts, 10).sum(0), torch.ones(10))


def test_overlapping_windows_agree_where_nothing_depends_on_the_window(folders):
    """A network that does not look at other frames: windows change nothing at all."""
    module = build(folders)
    model = module.world_model
    model.set_latent_statistics(torch.zeros(16, 2), torch.ones(16, 2))
    tokens = torch.randint(16, (1, 7, 4, 4))  # zero_init_output: F is zero everywhere
    options: dict[str, Any] = {"size": (4, 4), "fps": torch.tensor([24.0]), "seed": 1}
    whole = decode_codes(model, tokens, window=8, **options)
    parts = decode_codes(model, tokens, window=4, overlap=2, **options)
    torch.testing.assert_close(parts, whole)


def test_published_and_loaded(trained, folders, tmp_path):
    config = plain(trained.export_config())
    assert config["kind"] == "decoder"
    save_weights(tmp_path, config, trained.export_tensors())
    model = load_world_model(tmp_path, kind="decoder")
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained.world_model.state_dict()[name])
    again = build(folders, weights=str(tmp_path))
    again.configure_model()
    with pytest.raises(ValueError, match="kind=decoder: must be world"):
        load_world_model(tmp_path)
    rows = trained.sample_videos(batch())
    assert list(rows) == ["tokenizer", "plain_decoder", "diffusion_decoder"]
    assert {tuple(row.shape) for row in rows.values()} == {(4, 3, FRAMES, 32, 32)}


def test_mistakes_are_named(folders):
    options: Iterable[tuple[dict[str, Any], str]] = (
        ({"net": replace(NET, codebook=17)}, "net.codebook=17: must equal the 16 codes"),
        ({"codes": None}, "net.codebook=16: must equal the 0 codes"),
        ({"net": _plain()}, "net.codebook=0: must equal the 16 codes"),
    )
    for changes, message in options:
        with pytest.raises(ValueError, match=message):
            build(folders, **changes).configure_model()
    with pytest.raises(ValueError, match=r"conditioner\.codes_dropout=1"):
        replace(CONDITIONER, codes_dropout=1.0)
    for window, overlap in ((2, 2), (3, -1)):
        with pytest.raises(ValueError, match=f"overlap={overlap}"):
            cut(9, window, overlap)
    model = build(folders, conditioner=replace(CONDITIONER, codes_dropout=0.0)).world_model
    model.set_latent_statistics(torch.zeros(16, 1), torch.ones(16, 1))
    tokens, fps = torch.zeros(1, 3, 4, 4, dtype=torch.long), torch.tensor([24.0])
    with pytest.raises(ValueError, match=r"conditioner\.codes_dropout=0"):
        decode_codes(
            model, tokens, size=(4, 4), fps=fps, seed=0, sampler=SamplerConfig(guidance=1.0)
        )
    world = build(folders, net=_plain(), codes=None).world_model
    world.set_latent_statistics(torch.zeros(16, 1), torch.ones(16, 1))
    with pytest.raises(ValueError, match="decodes no tokens"):
        decode_codes(world, tokens, size=(4, 4), fps=fps, seed=0)
