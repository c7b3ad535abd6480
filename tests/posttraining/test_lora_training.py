"""Adapters and frozen parameters in training: what learns, what is published, what is the base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from openwfm.callbacks import ExportWeights
from openwfm.diffusion import load_world_model
from openwfm.diffusion.module import DiffusionModule
from openwfm.posttraining.adapter import load_adapted
from openwfm.posttraining.lora import LoraConfig
from openwfm.weights import read_weights, save_weights
from tests.diffusion.test_module import batch, build, loader, ready, trainer
from tests.diffusion.test_module import tokenizer as tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*Starting from v1.9.*"
)
LORA = LoraConfig(rank=4, trained=r"net\.patch_out")


@pytest.fixture
def base(tokenizer: str, tmp_path: Path) -> str:
    module = ready(build(tokenizer))
    torch.nn.init.normal_(module.world_model.net.patch_out.weight, std=0.1)
    save_weights(tmp_path / "base", module.export_config(), module.export_tensors())
    return str(tmp_path / "base")


def fit(module: DiffusionModule, folder: Path, *callbacks: Callback) -> None:
    runner = trainer(folder, 5)
    runner.callbacks += list(callbacks)  # type: ignore[attr-defined]
    runner.fit(module, loader([batch()] * 5), loader([batch()]))


def test_adapters_start_from_the_base_and_are_published_merged_and_small(
    tokenizer: str, base: str, tmp_path: Path
) -> None:
    start = load_world_model(base).state_dict()
    module = build(tokenizer, weights=base, lora=LORA)
    exported = module.export_tensors()
    assert exported.keys() == start.keys()
    assert all(torch.equal(exported[name], start[name]) for name in start)
    fit(module, tmp_path, ExportWeights(folder=str(tmp_path / "weights")))
    own = module.world_model.state_dict()
    kept = [name for name in start if name in own and name != "net.patch_out.weight"]
    assert len(kept) > 20 and all(torch.equal(own[name], start[name]) for name in kept)
    merged = load_world_model(tmp_path / "weights").state_dict()
    changed = {name for name in start if not torch.equal(merged[name], start[name])}
    assert "net.patch_out.weight" in changed and len(changed) == 2 * 7 + 1
    together = load_adapted(base, tmp_path / "weights" / "adapter").state_dict()
    assert all(torch.equal(together[name], merged[name]) for name in merged)
    config, small = read_weights(tmp_path / "weights" / "adapter", kind="adapter")
    assert config["lora"]["rank"] == 4 and config["step"] == 5
    assert sum(t.numel() for t in small.values()) < 0.5 * sum(t.numel() for t in start.values())
    sampled = module.sample_videos(batch())["generated"]
    assert bool(torch.isfinite(sampled).all())


def test_an_adapter_of_another_base_is_an_error(tokenizer: str, base: str, tmp_path: Path) -> None:
    module = build(tokenizer, weights=base, lora=LORA)
    adapter = module.export_adapter()
    assert adapter is not None
    config, tensors = adapter
    save_weights(tmp_path / "adapter", {**config, "base_sha256": "0" * 64}, tensors)
    with pytest.raises(ValueError, match="base_sha256=0"):
        load_adapted(base, tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"model\.lora: must come with model\.weights"):
        build(tokenizer, lora=LORA)


def test_frozen_parameters_do_not_learn(tokenizer: str, tmp_path: Path) -> None:
    module = ready(build(tokenizer, frozen=r"^net\.blocks\.0"))
    before = {name: t.clone() for name, t in module.world_model.state_dict().items()}
    fit(module, tmp_path)
    after = module.world_model.state_dict()
    for name, tensor in before.items():
        if name.startswith("net.blocks."):
            assert torch.equal(tensor, after[name]) == name.startswith("net.blocks.0"), name
    for pattern, message in (("nobody", "matches no parameter"), (".", "must leave a parameter")):
        with pytest.raises(ValueError, match=message):
            build(tokenizer, frozen=pattern).configure_model()
