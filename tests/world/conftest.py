"""A real world, as small as the networks allow, published with random weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from openwfm.diffusion import DiffusionWorldModel, DiTConfig
from openwfm.diffusion.config import ConditionerConfig, EdmConfig, SamplerConfig
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.weights import plain, save_weights


def publish(folder: Path, *, min_frames: int = 1, max_frames: int = 2, data: bool = True) -> Path:
    """``folder/weights`` of a run: 32x32 pixels, 17 frames, 24 fps."""
    torch.manual_seed(0)
    tokenizer_config = TokenizerConfig(
        channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=4, latent_channels=4
    )
    tokenizer = VideoTokenizer(tokenizer_config)
    model = DiffusionWorldModel(
        net=DiTConfig(
            in_channels=4,
            out_channels=4,
            width=48,
            num_blocks=1,
            num_heads=2,
            text_width=384,
            adaln_rank=8,
            max_size=(8, 8, 8),
        ),
        objective=EdmConfig(),
        conditioner=ConditionerConfig(min_frames=min_frames, max_frames=max_frames),
        sampler=SamplerConfig(num_steps=3, guidance=1.0),
    )
    model.set_latent_statistics(torch.zeros(4, 2), torch.ones(4, 2))
    weights = folder / "weights"
    config = model.export_config()
    if data:
        config["data"] = {"size": [32, 32], "num_frames": 17, "fps": 24.0}
    save_weights(weights, plain(config), model.state_dict())
    save_weights(
        weights / "tokenizer",
        plain({"kind": "tokenizer", "net": asdict(tokenizer_config)}),
        tokenizer.state_dict(),
    )
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def publish_world():
    return publish
