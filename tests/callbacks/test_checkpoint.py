"""A checkpoint is there after the last step, and never half."""

from __future__ import annotations

import os

import pytest

from openwfm.callbacks import EMA, Checkpoint
from openwfm.weights import read_checkpoint


@pytest.mark.parametrize("max_steps", [10, 12])
def test_the_last_step_is_saved(tmp_path, fit, max_steps):
    fit(
        [EMA(), Checkpoint(folder=str(tmp_path), every_n_steps=5)],
        max_steps=max_steps,
        enable_checkpointing=True,
    )
    assert os.listdir(tmp_path) == ["last.ckpt"]
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == max_steps


def test_the_raw_weights_are_kept_for_resuming(tmp_path, fit):
    _, recorder = fit([EMA(), Checkpoint(folder=str(tmp_path))], enable_checkpointing=True)
    saved = read_checkpoint(tmp_path / "last.ckpt")
    assert (saved["current_model_state"]["linear.weight"] == recorder.weights[-1]).all()
    assert not (saved["state_dict"]["linear.weight"] == recorder.weights[-1]).all()


def test_a_write_that_dies_leaves_the_old_checkpoint(tmp_path, fit, monkeypatch):
    fit([Checkpoint(folder=str(tmp_path))], enable_checkpointing=True, max_steps=3)
    before = (tmp_path / "last.ckpt").read_bytes()

    def die(checkpoint, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("lightning.fabric.plugins.io.torch_io._atomic_save", die)
    with pytest.raises(OSError, match="no space left"):
        fit([Checkpoint(folder=str(tmp_path))], enable_checkpointing=True, max_steps=6)
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_bad_interval():
    with pytest.raises(ValueError, match="callbacks.checkpoint.every_n_steps=0"):
        Checkpoint(folder=".", every_n_steps=0)
