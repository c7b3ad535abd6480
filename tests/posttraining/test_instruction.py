"""An instruction world is its base and nothing else when training starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from openwfm.config import build, compose
from openwfm.weights import read_tensors

BASE = Path(__file__).parents[2] / "experiments" / "002_nano_video2world" / "weights"


def test_it_starts_as_the_video_world_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BASE.parents[2])
    config = compose("train", ["experiment=013_nano_instruction", "data.config.shards=none"])
    tensors = build(config.model).export_tensors()
    base = read_tensors(BASE / "model.safetensors")
    assert tensors.keys() == base.keys()
    assert all(torch.equal(tensors[name], base[name]) for name in base)
