"""What is published is the average, not the raw weights."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from openwfm.callbacks import EMA, Checkpoint, ExportWeights
from openwfm.callbacks.ema import warmup_decay
from openwfm.files import read_json
from openwfm.weights import read_weights, save_weights


def average_by_hand(weights: list[torch.Tensor], decay: float) -> torch.Tensor:
    """The recursion in float64, written out."""
    mean = weights[0].double()
    for count, weight in enumerate(weights[1:], start=1):
        kept = min(decay, (1 + count) / (10 + count))
        mean = kept * mean + (1 - kept) * weight.double()
    return mean


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_export_holds_the_average(tmp_path, fit, decay):
    _, recorder = fit([EMA(decay=decay), ExportWeights(folder=str(tmp_path))])
    config, tensors = read_weights(tmp_path, kind="tiny")
    expected = average_by_hand(recorder.weights, decay)
    assert torch.allclose(tensors["linear.weight"].double(), expected, atol=1e-6)
    if decay > 0:
        assert not torch.allclose(tensors["linear.weight"], recorder.weights[-1], atol=1e-3)
    assert torch.equal(tensors["constant"], torch.tensor([0.1, 1 / 3]))
    assert config["step"] == 20 and config["data"] == {
        "size": [16, 16],
        "num_frames": 5,
        "fps": 24.0,
    }


def test_export_without_average_holds_the_raw_weights(tmp_path, fit):
    _, recorder = fit([ExportWeights(folder=str(tmp_path))])
    _, tensors = read_weights(tmp_path, kind="tiny")
    assert torch.equal(tensors["linear.weight"], recorder.weights[-1])


def test_export_at_each_checkpoint_is_not_disturbed_by_validation(tmp_path, fit):
    """Lightning swaps raw and averaged weights in validation; an export there must not see it."""
    seen = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, *arguments):
            if trainer.global_step % 5 == 1 and trainer.global_step > 5:
                seen.append(read_weights(tmp_path / "weights", "tiny")[1]["linear.weight"])

    checkpoint = Checkpoint(folder=str(tmp_path / "checkpoints"), every_n_steps=5)
    callbacks = [
        EMA(decay=0.9),
        ExportWeights(folder=str(tmp_path / "weights")),
        Keep(),
        checkpoint,
    ]
    _, recorder = fit(
        callbacks, enable_checkpointing=True, val_check_interval=5, limit_val_batches=1
    )
    assert len(seen) == 3
    for number, weight in enumerate(seen, start=1):
        expected = average_by_hand(recorder.weights[: 5 * number], 0.9)
        assert torch.allclose(weight.double(), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint")
def test_resumed_average_equals_uninterrupted(tmp_path, fit):
    def run(folder, **options):
        callbacks = [
            EMA(decay=0.9, update_every_n_steps=2),
            ExportWeights(folder=str(folder / "weights")),
            Checkpoint(folder=str(folder), every_n_steps=5),
        ]
        fit(callbacks, enable_checkpointing=True, **options)
        return read_weights(folder / "weights", "tiny")[1]

    whole = run(tmp_path / "whole", max_steps=14)
    run(tmp_path / "parts", max_steps=7)
    parts = run(tmp_path / "parts", max_steps=14, resume=tmp_path / "parts" / "last.ckpt")
    assert torch.equal(whole["linear.weight"], parts["linear.weight"])


def test_warmup_reaches_the_decay_and_never_exceeds_it():
    values = [warmup_decay(n, 0.999) for n in range(20_000)]
    assert values[0] == 0.1 and values == sorted(values) and values[-1] == 0.999


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"decay": -0.1}, {"update_every_n_steps": 0}])
def test_ema_rejects_bad_values(options):
    with pytest.raises(ValueError, match=f"callbacks.ema.{next(iter(options))}="):
        EMA(**options)


def test_export_copies_the_tokenizer(tmp_path, fit, module):
    save_weights(tmp_path / "source", {"kind": "tokenizer"}, {"x": torch.ones(3)})
    module.tokenizer_folder = str(tmp_path / "source")
    fit([ExportWeights(folder=str(tmp_path / "weights"))], module=module)
    assert read_weights(tmp_path / "weights" / "tokenizer", "tokenizer")[1]["x"].sum() == 3


def test_export_names_a_missing_tokenizer_file(tmp_path, fit, module):
    module.tokenizer_folder = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="nowhere/model.safetensors: no such file"):
        fit([ExportWeights(folder=str(tmp_path / "weights"))], module=module)


def test_export_refuses_a_module_that_cannot_export(tmp_path):
    with pytest.raises(ValueError, match="LightningModule has no export_config"):
        ExportWeights(folder=str(tmp_path)).setup(
            L.Trainer(logger=False), L.LightningModule(), "fit"
        )


def test_failed_write_leaves_the_old_weights(tmp_path, fit, module, monkeypatch):
    fit([ExportWeights(folder=str(tmp_path))])
    before = read_weights(tmp_path, "tiny")[1]["linear.weight"]
    monkeypatch.setattr("openwfm.weights.save", lambda *a, **k: (_ for _ in ()).throw(OSError()))
    with pytest.raises(OSError):
        fit([ExportWeights(folder=str(tmp_path))], max_steps=3)
    assert torch.equal(read_weights(tmp_path, "tiny")[1]["linear.weight"], before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert read_json(tmp_path / "config.json")["step"] == 20
