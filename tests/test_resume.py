"""A training killed with SIGKILL and resumed ends with the weights of one that was not killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = 14
SMALL = [
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=5",
    "trainer.limit_val_batches=1",
    "data.config.batch_size=2",
    "data.config.val_batch_size=2",
    "data.config.num_frames=9",
    "callbacks.checkpoint.every_n_steps=3",
    "callbacks.samples=null",
    "callbacks.progress=null",
    "model.scheduler.warmup_steps=4",
    "seed=5",
]
TOKENIZER = [
    "experiment=001_nano_tokenizer",
    "model.net.channels=8",
    "data.config.flip=0.5",
    *SMALL,
]
ADVERSARIAL = [
    *TOKENIZER,
    "model/discriminator=patch",
    "model.discriminator.channels=4",
    "model.discriminator.warmup_steps=2",
    "trainer.gradient_clip_val=null",
    "data.config.image_ratio=0.3",
    "data.config.image_batch_size=3",
]


def start(run: Path, shards: Path, overrides: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "openwfm.cli", "train", *overrides]
    return subprocess.Popen(
        [*command, f"data.config.shards={shards}", f"run={run}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output


def kill_at_random(process: subprocess.Popen[str], run: Path) -> None:
    """SIGKILL at a random moment after the first checkpoint is on disk."""
    deadline = time.monotonic() + 200
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.Random().uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [TOKENIZER, ADVERSARIAL], ids=["plain", "adversarial"])
def test_a_killed_tokenizer_training_resumes_bit_for_bit(
    tiny_shards: Path, tmp_path: Path, overrides: list[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, tiny_shards, overrides))
    process = start(killed, tiny_shards, overrides)
    kill_at_random(process, killed)
    finish(start(killed, tiny_shards, overrides))
    for name in ("weights/model.safetensors", "weights/config.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    _same_checkpoint(whole, killed)


JOINT = [
    "data.config.image_ratio=0.4",
    "data.config.image_batch_size=3",
    "data.config.window_stride=4",
    "data.config.buckets=[[32,48],[48,32]]",
    "model.net.padding_mask=true",
    "model.objective.scale_by_frames=true",
    "model.objective.image_p_mean=-0.5",
]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], JOINT], ids=["clips", "images, clips and padding"])
def test_a_killed_world_model_training_resumes_bit_for_bit(
    tiny_shards: Path, tmp_path: Path, more: list[str]
) -> None:
    from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
    from openwfm.weights import plain, save_weights

    config = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)
    from dataclasses import asdict

    net = {"kind": "tokenizer", "net": plain(asdict(config))}
    save_weights(tmp_path / "tok", net, VideoTokenizer(config).state_dict())
    overrides = [
        "experiment=002_nano_video2world",
        f"model.tokenizer={tmp_path / 'tok'}",
        "model.net.width=64",
        "model.net.num_blocks=2",
        "model.net.num_heads=2",
        "model.net.adaln_rank=16",
        "model.conditioner.max_frames=1",
        *SMALL,
        *more,
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, tiny_shards, overrides))
    process = start(killed, tiny_shards, overrides)
    kill_at_random(process, killed)
    finish(start(killed, tiny_shards, overrides))
    file = "weights/model.safetensors"
    assert (whole / file).read_bytes() == (killed / file).read_bytes()
    _same_checkpoint(whole, killed)


def _same_checkpoint(one: Path, other: Path) -> None:
    """Raw weights, averaged weights and optimiser state, bit for bit."""
    import torch

    from openwfm.weights import read_checkpoint

    a, b = (read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (one, other))
    assert a["global_step"] == b["global_step"] == STEPS

    def compare(x: object, y: object, path: str) -> None:
        if isinstance(x, torch.Tensor):
            assert isinstance(y, torch.Tensor) and torch.equal(x, y), path
        elif isinstance(x, dict):
            assert isinstance(y, dict) and x.keys() == y.keys(), path
            for key in x:
                compare(x[key], y[key], f"{path}.{key}")
        elif isinstance(x, list | tuple):
            assert isinstance(y, list | tuple) and len(x) == len(y), path
            for i, (left, right) in enumerate(zip(x, y, strict=True)):
                compare(left, right, f"{path}[{i}]")
        else:
            assert x == y, path

    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        compare(a[part], b[part], part)


def test_overrides_that_do_not_fit_a_resumed_run_are_refused(tmp_path: Path) -> None:
    from openwfm.commands.train import resumed_config

    (tmp_path / "config.yaml").write_text("trainer: {max_steps: 3}\npaths: {run: x}\n")
    (tmp_path / "overrides.yaml").write_text("- trainer.max_steps=3\n")
    with pytest.raises(ValueError, match="only values of its config.yaml"):
        resumed_config([f"run={tmp_path}", "experiment=001_nano_tokenizer"])
    assert resumed_config(["trainer.max_steps=3"]) is None
