"""Both experiments train through the command line: a sweep of one, a short run of the other."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf

from openwfm.commands.run_folder import record
from openwfm.commands.train import _check_schedule
from openwfm.files import read_json
from openwfm.nn.schedule import warmup_cosine
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.weights import plain, save_weights

SMALL = [
    "debug=fast",
    "data.config.num_frames=9",
    "callbacks.progress=null",
    "callbacks.samples=null",
]


def train(*overrides: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "openwfm.cli", "train", *overrides],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_sweep_makes_one_run_folder_per_seed(tiny_shards: Path, tmp_path: Path) -> None:
    train(
        "experiment=001_nano_tokenizer",
        *SMALL,
        "model.net.channels=8",
        f"data.config.shards={tiny_shards}",
        "seed=0,1",
        f"hydra.sweep.dir={tmp_path}",
        "-m",
    )
    for job in (0, 1):
        run = tmp_path / str(job)
        assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == job
        assert (run / "checkpoints" / "last.ckpt").is_file()
    weights = [(tmp_path / f"{job}/weights/model.safetensors").read_bytes() for job in (0, 1)]
    assert weights[0] != weights[1]


@pytest.mark.slow
def test_the_world_model_trains_a_few_steps(tiny_shards: Path, tmp_path: Path) -> None:
    from dataclasses import asdict

    config = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)
    net = {"kind": "tokenizer", "net": plain(asdict(config))}
    save_weights(tmp_path / "tokenizer", net, VideoTokenizer(config).state_dict())
    train(
        "experiment=002_nano_video2world",
        *SMALL,
        f"model.tokenizer={tmp_path / 'tokenizer'}",
        "model.net.width=64",
        "model.net.num_blocks=2",
        "model.net.num_heads=2",
        "model.conditioner.max_frames=1",
        f"data.config.shards={tiny_shards}",
        f"run={tmp_path / 'run'}",
    )
    assert read_json(tmp_path / "run" / "weights" / "config.json")["kind"]


def test_a_run_without_a_checkpoint_is_recorded_anew(tmp_path):
    """What its first start was given is not what the second one trains with."""
    (tmp_path / "overrides.yaml").write_text("- seed=1\n")
    record(tmp_path, OmegaConf.create({"seed": 2}))
    assert OmegaConf.load(tmp_path / "config.yaml") == {"seed": 2}
    assert OmegaConf.load(tmp_path / "overrides.yaml") == ["seed=1"]


def test_a_warm_up_longer_than_the_run_is_refused_before_anything_is_encoded():
    schedule = partial(warmup_cosine, warmup_steps=10, max_steps=10)
    with pytest.raises(ValueError, match="warmup_steps=10"):
        _check_schedule(SimpleNamespace(scheduler=schedule))
    _check_schedule(SimpleNamespace(scheduler=None))
