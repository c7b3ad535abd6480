"""The LightningModule: trained for real, on cached latents, with a published tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields, replace
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
from openwfm.diffusion.module import DiffusionModule
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.weights import plain, save_weights

NET = DiTConfig(
    width=64,
    num_blocks=2,
    num_heads=2,
    adaln_rank=8,
    text_width=12,
    in_channels=16,
    padding_mask=False,
    max_size=(8, 16, 16),
    zero_init_output=True,
)
FRAMES = 17


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A published folder of a very small tokenizer with random weights."""
    config = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=16)
    folder = tmp_path_factory.mktemp("tokenizer")
    weights = VideoTokenizer(config).state_dict()
    save_weights(folder, {"kind": "tokenizer", "net": plain(asdict(config))}, weights)
    return str(folder)


def build(tokenizer: str, **changes: Any) -> DiffusionModule:
    values: dict[str, Any] = {
        "net": NET,
        "objective": EdmConfig(),
        "conditioner": ConditionerConfig(text_width=12, text_tokens=6, min_frames=1, max_frames=2),
        "sampler": SamplerConfig(num_steps=3),
        "tokenizer": tokenizer,
        "optimizer": partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.1),
        "scheduler": None,
        "weights": None,
        "seed": 7,
        **changes,
    }
    return DiffusionModule(**values)


def batch(keys: Iterable[str] = "abcd", video: bool = False, text: int = 12) -> VideoBatch:
    key = tuple(keys)
    generator = torch.Generator().manual_seed(0)
    size = len(key)
    clips = torch.rand(size, 3, FRAMES, 32, 32, generator=generator) * 2 - 1
    return VideoBatch(
        key=key,
        fps=torch.full((size,), 24.0),
        video=clips if video else None,
        latents=None if video else torch.randn(size, 16, 3, 4, 4, generator=generator),
        text=torch.randn(size, 4, text, generator=generator),
    )


def select(whole: VideoBatch, part: slice) -> VideoBatch:
    values = {field.name: getattr(whole, field.name) for field in fields(whole)}
    return VideoBatch(**{name: v[part] for name, v in values.items() if v is not None})


def ready(module: DiffusionModule) -> DiffusionModule:
    module.set_latent_statistics(torch.zeros(16, 3), torch.ones(16, 3))
    return module


def trainer(folder: Path, steps: int) -> L.Trainer:
    return L.Trainer(
        default_root_dir=folder,
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
    )


def loader(batches: list[VideoBatch]) -> DataLoader[VideoBatch]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def fit(module: DiffusionModule, folder: Path, steps: int, data: VideoBatch) -> L.Trainer:
    runner = trainer(folder, steps)
    runner.fit(module, loader([data] * steps), loader([data]))
    return runner


def val_loss(module: DiffusionModule, folder: Path, data: VideoBatch) -> float:
    runner = trainer(folder, 1)
    return runner.validate(module, loader([data]), verbose=False)[0]["val/edm"]


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*Starting from v1.9.*"
)


def test_training_reduces_the_loss_and_exports(tokenizer: str, tmp_path: Path) -> None:
    module = ready(build(tokenizer))
    before = val_loss(module, tmp_path, batch())
    fit(module, tmp_path, 40, batch())
    after = val_loss(module, tmp_path, batch())
    assert after < 0.85 * before
    save_weights(tmp_path / "weights", module.export_config(), module.export_tensors())
    loaded = load_world_model(tmp_path / "weights")
    names = {name.split(".")[0] for name in loaded.state_dict()}
    assert names == {"net", "logvar", "latent_mean", "latent_std"}
    again = build(tokenizer, weights=str(tmp_path / "weights"))
    assert val_loss(again, tmp_path, batch()) == pytest.approx(after, rel=1e-6)
    with pytest.raises(ValueError, match="weights=.*differs"):
        build(
            tokenizer, weights=str(tmp_path / "weights"), net=replace(NET, adaln_rank=4)
        ).configure_model()


def test_same_seed_same_weights(tokenizer: str, tmp_path: Path) -> None:
    states = []
    for seed, disturbance in ((7, 1), (7, 2), (8, 1)):
        torch.manual_seed(disturbance)
        module = ready(build(tokenizer, seed=seed))
        fit(module, tmp_path, 3, batch())
        states.append(module.export_tensors())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    assert not torch.equal(states[0]["net.patch_in.weight"], states[2]["net.patch_in.weight"])


# Every batch is the same here, so where the loader resumes does not matter.
@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*")
def test_resumed_equals_uninterrupted(tokenizer: str, tmp_path: Path) -> None:
    """Statistics of any number of columns travel in the checkpoint; the tokenizer does not."""
    whole = ready(build(tokenizer))
    fit(whole, tmp_path, 6, batch())
    first = ready(build(tokenizer))
    runner = fit(first, tmp_path, 3, batch())
    runner.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert all(name.startswith("model.") for name in saved)
    assert saved["model.latent_mean"].shape == (16, 3)
    resumed = build(tokenizer)
    trainer(tmp_path, 6).fit(
        resumed, loader([batch()] * 6), loader([batch()]), ckpt_path=tmp_path / "half.ckpt"
    )
    for name, tensor in whole.export_tensors().items():
        assert torch.equal(tensor, resumed.export_tensors()[name]), name


def test_validation_does_not_depend_on_the_batch(tokenizer: str, tmp_path: Path) -> None:
    module = ready(build(tokenizer))
    whole, runner = batch("abcd"), trainer(tmp_path, 1)
    halves = [select(whole, slice(0, 2)), select(whole, slice(2, 4))]
    losses = [
        runner.validate(module, loader(batches), verbose=False)[0]["val/loss"]
        for batches in ([whole], halves)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    one = [val_loss(module, tmp_path, batch("ab")) for _ in range(2)]
    assert one[0] == one[1]


def test_video_is_encoded_when_there_is_no_cache(tokenizer: str) -> None:
    module = ready(build(tokenizer))
    clips = batch("ab", video=True)
    latents = module.raw_latents(clips)
    assert latents.shape == (2, 16, 3, 4, 4) and not latents.requires_grad
    rows = module.sample_videos(clips)
    assert set(rows) == {"tokenizer", "generated"}
    assert all(row.shape == (2, 3, FRAMES, 32, 32) for row in rows.values())
    # Given frames are the same in both rows: causality keeps later latents out of them.
    assert torch.allclose(rows["tokenizer"][:, :, :9], rows["generated"][:, :, :9], atol=1e-3)
    assert not any("tokenizer" in name for name, _ in module.named_modules())


def test_weight_decay_on_matrices_only(tokenizer: str) -> None:
    module = build(tokenizer)
    groups = module.configure_optimizers()["optimizer"].param_groups
    names = {id(value): name for name, value in module.world_model.named_parameters()}
    decayed = {names[id(value)] for value in groups[0]["params"]}
    plain_names = {names[id(value)] for value in groups[1]["params"]}
    assert groups[0]["weight_decay"] == 0.1 and groups[1]["weight_decay"] == 0.0
    assert len(decayed) + len(plain_names) == len(names)
    assert "net.blocks.0.mlp.0.weight" in decayed and "net.patch_out.weight" in decayed
    assert {"net.position.t", "logvar.1.weight", "net.level.norm.weight"} <= plain_names


def test_statistics_must_be_set(tokenizer: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="latent statistics: not measured"):
        fit(build(tokenizer), tmp_path, 1, batch())


@pytest.mark.parametrize(
    "data, message",
    [
        (replace(batch(), latents=batch().latents * torch.nan), "loss=nan at step 0.*a, b, c, d"),
        (batch(text=13), "batch.text.*minilm"),
        (replace(batch(), text=None), "batch.text: missing"),
        (replace(batch(), latents=None), "neither latents nor video"),
    ],
)
def test_bad_batches(tokenizer: str, tmp_path: Path, data: VideoBatch, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(ready(build(tokenizer)), tmp_path, 1, data)


def test_tokenizer_must_fit(tokenizer: str) -> None:
    with pytest.raises(ValueError, match="net.in_channels=4: must equal the 16 latent channels"):
        build(tokenizer, net=replace(NET, in_channels=4, out_channels=4)).configure_model()
