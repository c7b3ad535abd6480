"""Stages of training through the LightningModule: images beside clips, heads, cached codes."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from openwfm.autoregressive import TransformerConfig
from openwfm.autoregressive.medusa import MedusaConfig
from openwfm.autoregressive.model import StepDraws, TextConfig, load_autoregressive_model
from openwfm.autoregressive.module import AutoregressiveModule
from openwfm.autoregressive.objective import NextTokenConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.commands.train import _cache_latents
from openwfm.data.batch import VideoBatch
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.weights import plain, save_weights

TOKENIZER = TokenizerConfig(
    channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=4,
    latent_channels=2, fsq_levels=(4, 4),
)  # fmt: skip
NET = TransformerConfig(
    width=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden=48,
    vocabulary=16, grid=(3, 4, 4),
)  # fmt: skip
TEXT = replace(NET, bov=True, context_width=12, absolute_position=True)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    net = VideoTokenizer(TOKENIZER)
    for parameter in net.parameters():
        parameter.data *= 1.5
    save_weights(folder, {"kind": "tokenizer", "net": plain(asdict(TOKENIZER))}, net.state_dict())
    return str(folder)


def build(tokenizer: str, **changes: Any) -> AutoregressiveModule:
    values: dict[str, Any] = {
        "net": NET,
        "objective": NextTokenConfig(),
        "sampler": SamplerConfig(),
        "text": TextConfig(),
        "tokenizer": tokenizer,
        "optimizer": partial(torch.optim.AdamW, lr=5e-3, weight_decay=0.0),
        "scheduler": None,
        "weights": None,
        "seed": 7,
        **changes,
    }
    return AutoregressiveModule(**values)


def batch(frames: int, text: bool = False) -> VideoBatch:
    generator = torch.Generator().manual_seed(0)
    return VideoBatch(
        key=("a", "b"),
        fps=torch.full((2,), 24.0),
        video=torch.rand(2, 3, frames, 32, 32, generator=generator) * 2 - 1,
        text=torch.randn(2, 5, 12, generator=generator) if text else None,
    )


def publish(module: AutoregressiveModule, folder: Path) -> str:
    module.configure_model()
    save_weights(folder, plain(module.export_config()), module.export_tensors())
    return str(folder)


def test_images_train_where_a_begin_foresees_them(tokenizer):
    text = TextConfig(encoder="minilm-l6-v2", tokens=8)
    joint = build(tokenizer, net=TEXT, text=text, objective=NextTokenConfig(min_frames=0))
    model, keep = joint.world_model, StepDraws(torch.ones(2, dtype=torch.bool))
    for frames, tokens in ((1, 16), (17, 48)):
        item = batch(frames, text=True)
        indices = joint.indices(item)
        hidden = model.hidden(indices, keep, text=item.text)
        assert hidden.shape[1] == tokens
        assert int(model.counted(indices).sum()) == 2 * tokens
        assert torch.isfinite(model.loss(indices, hidden).loss)
    # A model that is given its first frame has nothing to learn from an image.
    clips = build(tokenizer)
    indices = clips.indices(batch(1))
    hidden = clips.world_model.hidden(indices, keep, text=None)
    with pytest.raises(ValueError, match="none is counted"):
        clips.world_model.loss(indices, hidden)


def test_dropped_prompts_are_no_prompts(tokenizer):
    text = TextConfig(encoder="minilm-l6-v2", tokens=8)
    module = build(tokenizer, net=TEXT, text=text)
    item, model = batch(17, text=True), module.world_model
    indices = module.indices(item)
    dropped = model.hidden(indices, StepDraws(torch.tensor([False, True])), text=item.text)
    nothing = model.hidden(
        indices, StepDraws(torch.ones(2, dtype=torch.bool)), text=torch.zeros_like(item.text)
    )
    torch.testing.assert_close(dropped[0], nothing[0])
    assert not torch.allclose(dropped[1], nothing[1], atol=1e-3)


def test_heads_learn_and_what_lies_below_stays(tokenizer, tmp_path):
    start = publish(build(tokenizer), tmp_path / "start")
    module = build(
        tokenizer,
        weights=start,
        medusa=MedusaConfig(num_heads=3, unfrozen_layers=1, weight=1.0, warmup_steps=5),
    )
    loader: DataLoader[Any] = DataLoader([batch(17)], batch_size=None)
    trainer = L.Trainer(
        max_steps=40, val_check_interval=40, check_val_every_n_epoch=None, accelerator="cpu",
        logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer.fit(module, loader, loader)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for ahead in (2, 3, 4):
        assert metrics[f"val/accuracy_ahead{ahead}"] > 0.4  # one in sixteen by chance
    before = load_autoregressive_model(start).state_dict()
    after = load_autoregressive_model(publish(module, tmp_path / "end")).state_dict()
    changed = {n for n in after if n not in before or not torch.equal(after[n], before[n])}
    assert all(
        name.startswith(("net.layers.1.", "net.norm.", "net.unembed.", "medusa."))
        for name in changed
    )
    assert {"net.unembed.weight", "medusa.merged.weight"} <= changed


def test_codes_are_cached_without_statistics(tokenizer):
    asked = []

    def prepare_latents(encode, sha256):
        asked.append((encode(torch.zeros(1, 3, 17, 32, 32)).shape, sha256))

    module = build(tokenizer)
    data = SimpleNamespace(config=SimpleNamespace(latents="x"), prepare_latents=prepare_latents)
    _cache_latents(module, data)
    assert asked == [((1, 2, 3, 4, 4), module.tokenizer_sha256)]
    _cache_latents(module, SimpleNamespace(config=SimpleNamespace(latents=None)))
