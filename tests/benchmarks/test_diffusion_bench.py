"""The diffusion benchmark on networks and latents that cost nothing."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from openwfm.benchmarks import diffusion as bench
from openwfm.benchmarks import diffusion_approximate
from openwfm.benchmarks.diffusion import (
    DiffusionBenchConfig,
    compare,
    gflop,
    kept_mib,
    matmul_ceiling,
    training,
)
from openwfm.benchmarks.diffusion_memory import peak_of_sampling
from openwfm.diffusion import DiTConfig
from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.runtime import Runtime
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.weights import plain, save_weights
from tests.diffusion.test_model import build

TINY = DiTConfig(
    width=32,
    num_blocks=2,
    num_heads=2,
    adaln_rank=8,
    text_width=384,
    padding_mask=False,
    max_size=(8, 16, 16),
)
ONCE = DiffusionBenchConfig(repeats=1)
SHAPE = (16, 2, 4, 4)
STEPS = SamplerConfig(num_steps=3)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(bench, "NET", TINY)
    monkeypatch.setattr(bench, "TRAINED", {"nano": (TINY, 2)})


def test_defaults_are_those_of_the_yaml() -> None:
    conf = Path(__file__).parents[2] / "conf" / "bench.yaml"
    values = yaml.safe_load(conf.read_text())
    node = values["diffusion"]
    assert node.pop("_target_") == "openwfm.benchmarks.diffusion.DiffusionBenchConfig"
    given = {name: values[value.strip("${}")] for name, value in node.items()}
    assert DiffusionBenchConfig(**given) == DiffusionBenchConfig()


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="repeats=0"):
        DiffusionBenchConfig(repeats=0)


def test_rows_hold_figures_that_fit_together() -> None:
    ceiling = matmul_ceiling(ONCE)
    row = compare(SHAPE, STEPS, ONCE, ceiling)
    assert row["ratio"] == pytest.approx(row["theirs_s"] / row["ours_s"])
    assert 0 < row["difference"] < 1e-5 and row["latents"] == "16x2x4x4"
    assert 0 < row["ours_of_ceiling"] < 1 and 0 < row["theirs_of_ceiling"] < 1
    without, with_checkpoints = training("nano", ONCE, ceiling)
    assert with_checkpoints["kept_mib"] < without["kept_mib"]
    assert without["samples_per_second"] > 0


def test_a_wrong_network_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Runtime.__call__

    def wrong(self: Runtime, *arguments: object, **ports: object) -> Tensor:
        return right(self, *arguments, **ports) * 1.001  # type: ignore[arg-type]

    monkeypatch.setattr(Runtime, "__call__", wrong)
    with pytest.raises(AssertionError, match="samples differ by"):
        compare(SHAPE, STEPS, ONCE, 100.0)


def test_operations_are_those_that_torch_counts() -> None:
    """Of the layers; attention is not counted on a CPU by torch, so it is left out of ours too."""
    from torch.utils.flop_counter import FlopCounterMode

    from openwfm.benchmarks.diffusion_peer import network, run_inputs, theirs
    from openwfm.interop.diffusers import to_diffusers

    config = replace(TINY, width=64)
    peer = to_diffusers(network(config, 0))
    inputs = run_inputs(config, (16, 2, 8, 8), (bench.WORDS, bench.TOKENS), 0)
    with FlopCounterMode(display=False) as counter:
        theirs(peer, SamplerConfig(num_steps=1, guidance=7.0), inputs)
    tokens, d = 32, 64
    attention = 2 * 2 * 4 * tokens * (tokens + bench.TOKENS) * d / 1e9
    products = gflop(config, (16, 2, 8, 8))[1] - attention
    assert products == pytest.approx(counter.get_total_flops() / 1e9, rel=0.05)
    assert gflop(config, (16, 2, 8, 8))[0] < gflop(config, (16, 2, 8, 8))[1]


def test_kept_memory_is_that_of_what_is_kept() -> None:
    x = torch.ones(2**18, requires_grad=True)  # 1 MiB
    assert kept_mib(lambda: x.sin() * 1) == pytest.approx(1)
    assert kept_mib(lambda: x.exp().exp() * 1) == pytest.approx(2)
    weight = torch.nn.Parameter(torch.ones(8, 8))
    assert kept_mib(lambda: torch.ones(4, 8) @ weight.t()) == pytest.approx(4 * 8 * 4 / 2**20)


@pytest.mark.slow
def test_memory_of_a_run() -> None:
    """In processes of their own; the largest tensor, the MLP's of both branches, is 8 MiB."""
    row = peak_of_sampling(replace(TINY, width=64, max_size=(8, 64, 64)), (16, 8, 64, 64))
    assert 8 < row["ours_mib"] < 400 and 4 < row["theirs_mib"] < 400
    assert row["ratio"] == pytest.approx(row["theirs_mib"] / row["ours_mib"])


def test_approximate_modes_of_a_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(replace(TINY, in_channels=4, out_channels=4, text_width=12))
    export = model.export_config()
    save_weights(tmp_path, plain(export), model.state_dict())
    tokenizer = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)
    tokenizer = replace(tokenizer, z_channels=4, latent_channels=4)
    weights = VideoTokenizer(tokenizer).state_dict()
    save_weights(
        tmp_path / "tokenizer", {"kind": "tokenizer", "net": plain(asdict(tokenizer))}, weights
    )
    monkeypatch.setattr(
        diffusion_approximate.DiffusionWorld,
        "embed",
        lambda self, prompts: torch.ones(len(prompts), 2, 12),
    )
    few = {name: replace(mode, num_steps=3) for name, mode in list(MODES.items())[:4]}
    monkeypatch.setattr(diffusion_approximate, "MODES", few)
    monkeypatch.setattr(diffusion_approximate, "EXACT", few["exact"])
    rows = diffusion_approximate.approximate(str(tmp_path), quick=True)
    assert [row["mode"] for row in rows] == list(few)
    assert rows[0]["error"] == 0 and all(row["faster"] > 0 for row in rows)
    assert all(row["worst_error"] >= row["error"] for row in rows)


MODES = diffusion_approximate.MODES
