"""The LightningModule and the world: trained for real on a small discrete tokenizer."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from openwfm.autoregressive import TransformerConfig
from openwfm.autoregressive.model import TextConfig, load_autoregressive_model
from openwfm.autoregressive.module import AutoregressiveModule
from openwfm.autoregressive.objective import NextTokenConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.callbacks.export import ExportWeights, copy_weights
from openwfm.data.batch import VideoBatch
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.weights import plain, save_weights
from openwfm.world import Sampling, World

TOKENIZER = TokenizerConfig(
    channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=4,
    latent_channels=2, fsq_levels=(4, 4),
)  # fmt: skip
NET = TransformerConfig(
    width=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden=48,
    vocabulary=16, grid=(3, 4, 4),
)  # fmt: skip
TEXT = replace(NET, bov=True, context_width=384, absolute_position=True)
FRAMES = 17


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
        "optimizer": partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.1),
        "scheduler": None,
        "weights": None,
        "seed": 7,
        **changes,
    }
    return AutoregressiveModule(**values)


def batch(keys: str = "abcd", text: bool = False) -> VideoBatch:
    generator = torch.Generator().manual_seed(0)
    size = len(keys)
    return VideoBatch(
        key=tuple(keys),
        fps=torch.full((size,), 24.0),
        video=torch.rand(size, 3, FRAMES, 32, 32, generator=generator) * 2 - 1,
        text=torch.randn(size, 5, 384, generator=generator) if text else None,
    )


def fit(module: AutoregressiveModule, item: VideoBatch, steps: int, folder: Path) -> L.Trainer:
    loader: DataLoader[Any] = DataLoader([item], batch_size=None)
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        check_val_every_n_epoch=None,
        val_check_interval=steps,
        callbacks=[ExportWeights(folder=str(folder / "weights"))],
    )
    trainer.fit(module, loader, loader)
    return trainer


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.parametrize("text", [False, True])
def test_it_learns_a_batch_by_heart_and_answers_as_a_world(tokenizer, tmp_path, text):
    changes: dict[str, Any] = {"net": TEXT, "text": TextConfig(encoder="minilm-l6-v2", tokens=8)}
    module = build(tokenizer, **(changes if text else {}))
    item = batch(text=text)
    trainer = fit(module, item, 120, tmp_path)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert metrics["val/cross_entropy"] < 0.3
    assert metrics["val/accuracy_frame2"] > 0.95
    assert "val/accuracy_frame0" not in metrics

    world = World.load(tmp_path)
    assert world.facts.reads_text == text
    given = item.video[:, :, :9]
    options = {"text": item.text, "num_frames": FRAMES, "fps": item.fps, "seed": 0}
    made = world.predict(given, sampling=Sampling(temperature=0.0), **options)
    assert torch.equal(made[:, :, :9], given)
    wanted = world.reconstruct(item.video)
    right = (made[:, :, 9:] - wanted[:, :, 9:]).abs().mean(dim=(1, 2, 3, 4)) < 0.1
    assert right.sum() >= 3
    # A clip's future depends on its number, not on its batch.
    drawn = world.predict(given, sampling=Sampling(temperature=3.0, top_p=1.0), **options)
    alone = world.predict(
        given[:1],
        text=None if item.text is None else item.text[:1],
        num_frames=FRAMES,
        fps=item.fps[:1],
        seed=0,
        sampling=Sampling(temperature=3.0, top_p=1.0),
    )
    assert torch.equal(drawn[:1], alone)
    assert not torch.equal(drawn, made)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("run")
    module = build(tokenizer)
    module.configure_model()
    config = plain(module.export_config())
    save_weights(root / "weights", config, module.export_tensors())
    copy_weights(Path(tokenizer), root / "weights" / "tokenizer")
    return root


def test_a_stream_yields_the_frames_of_predict(folder):
    world = World.load(folder)
    video = batch().video[0]
    sampling = Sampling(temperature=2.0, top_p=1.0)
    parts = list(world.stream(video[:, :9], num_frames=FRAMES, seed=3, sampling=sampling))
    assert [part.shape[1] for part in parts] == [9, 8]
    whole = world.predict(
        video[None, :, :9],
        text=None,
        num_frames=FRAMES,
        fps=torch.tensor([24.0]),
        seed=3,
        sampling=sampling,
    )[0]
    torch.testing.assert_close(torch.cat(parts, 1)[:, 9:], whole[:, 9:], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="num_latent_frames=2: must be above the 2 given"):
        next(world.stream(video[:, :9], num_frames=9))


def test_a_long_video_comes_window_by_window(folder):
    """7 latent frames of a network that sees 3: as predicted, as streamed, and said so."""
    world = World.load(folder)
    video = batch().video[0]
    options = {"num_frames": 49, "seed": 3}
    made = world.generate(frames=video[:, :9], fps=24.0, temperature=2.0, top_p=1.0, **options)
    assert made.video.shape[1] == 49
    said = made.provenance["sliding_window"]
    assert said["latent_frames"] == 3
    assert said["windows"] == [{"carried": 2, "made": 1}] * 5
    sampling = Sampling(temperature=2.0, top_p=1.0)
    parts = list(world.stream(video[:, :9], sampling=sampling, **options))
    assert [part.shape[1] for part in parts] == [9] + [8] * 5
    torch.testing.assert_close(torch.cat(parts, 1)[:, 9:], made.video[:, 9:], rtol=1e-4, atol=1e-4)
    world.decode_with(keep=1)
    other = world.generate(frames=video[:, :9], fps=24.0, **options).provenance
    assert other["sliding_window"]["windows"] == [
        {"carried": 2, "made": 1}, {"carried": 1, "made": 2}, {"carried": 1, "made": 2},
    ]  # fmt: skip
    short = world.generate(frames=video[:, :9], fps=24.0, num_frames=17).provenance
    assert "sliding_window" not in short
    assert short["decoding"] == {"precision": "fp32", "native": False}
    world.decode_with(keep=3)
    with pytest.raises(ValueError, match=r"decoding.keep=3: must be in 1..2 for 7 latent frames"):
        world.generate(frames=video[:, :9], fps=24.0, **options)


def test_samples_to_look_at(tokenizer):
    module = build(tokenizer)
    rows = module.sample_videos(batch())
    assert list(rows) == ["tokenizer", "teacher_forced", "free"]
    assert {tuple(row.shape) for row in rows.values()} == {(4, 3, FRAMES, 32, 32)}
    assert torch.equal(rows["free"][:, :, :9], rows["tokenizer"][:, :, :9])


def test_cached_codes_are_the_tokens(tokenizer):
    module = build(tokenizer)
    item = batch()
    codes = module.encode_latents(item.video).half()
    cached = replace(item, video=None, latents=codes)
    assert torch.equal(module.indices(cached), module.indices(item))
    stored = replace(item, video=None, tokens=module.indices(item))
    assert torch.equal(module.indices(stored), module.indices(item))
    with pytest.raises(ValueError, match="neither tokens, codes nor video"):
        module.indices(replace(item, video=None))


def test_published_weights_start_a_run(folder, tokenizer):
    module = build(tokenizer, weights=str(folder / "weights"), seed=99)
    module.configure_model()
    published = load_autoregressive_model(folder / "weights").state_dict()
    for name, value in module.world_model.state_dict().items():
        assert torch.equal(value, published[name])
    other = build(tokenizer, weights=str(folder / "weights"), net=replace(NET, hidden=40))
    with pytest.raises(ValueError, match="its network"):
        other.configure_model()


def test_mistakes_are_named(folder, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="net.vocabulary=17: must equal the 16 codes"):
        build(tokenizer, net=replace(NET, vocabulary=17)).configure_model()
    with pytest.raises(ValueError, match="text.encoder=none: must be none exactly"):
        build(tokenizer, net=TEXT).configure_model()
    with pytest.raises(ValueError, match="min_frames=0: must be at least 1"):
        build(tokenizer, objective=NextTokenConfig(min_frames=0)).configure_model()
    with pytest.raises(ValueError, match=r"frames of \(2, 2\)"):
        build(tokenizer).world_model.sequence(torch.zeros(1, 3, 2, 2))
    world = World.load(folder)
    with pytest.raises(ValueError, match="reads no text"):
        world.embed(["a ball"])
    with pytest.raises(ValueError, match=r"guidance=1.0: an autoregressive world has none"):
        world.settings(Sampling(guidance=1.0))
    with pytest.raises(ValueError, match="frames: missing"):
        world.generate(num_frames=FRAMES)
    shutil.copytree(folder, tmp_path / "swapped")
    torch.manual_seed(1)
    changed = VideoTokenizer(TOKENIZER).state_dict()
    config = {"kind": "tokenizer", "net": plain(asdict(TOKENIZER))}
    save_weights(tmp_path / "swapped" / "weights" / "tokenizer", config, changed)
    with pytest.raises(ValueError, match="whose tokens this world was trained on"):
        World.load(tmp_path / "swapped")
