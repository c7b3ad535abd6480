"""The autoregressive benchmark on networks that cost nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openwfm.autoregressive.generate import generate_tokens
from openwfm.autoregressive.runtime import DecodingConfig
from openwfm.benchmarks import autoregressive, autoregressive_world
from openwfm.benchmarks.autoregressive import (
    NETS,
    AutoregressiveBenchConfig,
    agreement,
    bench_autoregressive,
    by_position,
    compare,
    random_network,
    read_bandwidth,
    step_bytes,
)
from openwfm.benchmarks.autoregressive_drafts import GREEDY, Corrupted, timed
from openwfm.benchmarks.autoregressive_world import quality, random_world, speculation, stream

QUICK = AutoregressiveBenchConfig(quick=True, repeats=1)
TINY = replace(NETS["nano"], width=48, num_layers=2, hidden=64, vocabulary=60)


@pytest.fixture(autouse=True)
def _few_tokens(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(AutoregressiveBenchConfig, "num_tokens", 12)
    monkeypatch.setenv("OPENWFM_CACHE", str(tmp_path_factory.getbasetemp() / "native"))


def test_the_sizes_are_what_they_say():
    with torch.device("meta"):
        network = autoregressive.Transformer(NETS["26M"])
    # Of 28.3 M parameters a step reads all but the embedding, of which it needs a row.
    read = sum(p.numel() for p in network.parameters()) - 4096 * 512
    assert read == pytest.approx(26.2e6, rel=0.01)
    read = step_bytes(network, 1, "torch fp32", 0)
    assert read == pytest.approx(105e6, rel=0.01)
    assert step_bytes(network, 1, "native int8", 0) < 0.27 * read


def test_transformers_has_the_same_network():
    """Logits and greedy tokens of a Qwen3 with our weights, from each decoder."""
    pytest.importorskip("transformers")
    row = agreement("tiny", random_network(TINY, 3), QUICK)
    assert row["torch_difference"] < 1e-5 and row["torch_same"]
    assert row.get("native_difference", 0) < 1e-5 and row.get("native_same", True)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_contestant_makes_a_row(batch):
    pytest.importorskip("transformers")
    rows = compare("tiny", random_network(TINY, 0), batch, QUICK, 1e10)
    named = {row["decoder"]: row for row in rows}
    assert {"Llama, dynamic cache", "Llama, static cache", "our module", "torch fp32"} <= set(named)
    assert all(row["tokens/s"] > 0 for row in rows)
    for name in ("torch fp32", "native fp32"):
        assert named.get(name, named["torch fp32"])["same_tokens"] == 1


def test_positions_and_bandwidth(monkeypatch):
    rows = by_position(random_network(TINY, 0), QUICK)
    assert [row["position"] for row in rows] == [0, 128, 512]
    assert all(value > 0 for row in rows for key, value in row.items() if key != "position")
    assert read_bandwidth(8) > 1e8


@pytest.mark.parametrize("chance, passes", [(1.0, 3), (0.0, 15)])
def test_drafts_of_a_given_chance(chance, passes):
    network = random_network(TINY, 1)
    prompt = torch.zeros(1, 4, dtype=torch.long)
    truth = torch.cat((prompt, generate_tokens(network, prompt, 16, GREEDY)), 1)[0]
    row = timed(
        network, [prompt], 16, GREEDY, [Corrupted(truth, chance, 60, 0)], length=4,
        decoding=DecodingConfig(), repeats=1, seed=0,
    )  # fmt: skip
    assert row["same"] and row["passes_saved"] == pytest.approx(15 / passes)
    assert row["accepted"] == pytest.approx(row["drafted"] if chance else 0)


def test_a_world_of_random_weights_streams_and_is_measured(monkeypatch):
    small = replace(autoregressive_world.preset("ar_nano"), width=48, num_layers=2, hidden=64)
    monkeypatch.setattr(autoregressive_world, "preset", lambda name: small)
    monkeypatch.setattr(autoregressive_world, "LENGTHS", (4, None))
    world = random_world(0)
    rows = stream(world, 1, True, 0)
    assert rows[0]["frames"] == 41 and rows[0]["window"] == 17
    assert all(row["first_ms"] > 0 and row["frames/s"] > 0 for row in rows)
    clips = torch.randint(1000, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)), None
    found = {row["decoder"]: row for row in quality(world, clips)}
    assert found["torch fp32"]["KL_nats"] < 1e-6 and found["torch fp32"]["same_top1"] == 1
    assert found["torch fp32"]["tokens"] == 2 * 2 * 64
    for row in found.values():
        assert row["KL_nats"] < 0.01 and 0 <= row["accuracy"] <= 1
    rows = speculation(world, (clips[0][:1], None), 1, 0)
    assert all(row["same"] for row in rows if row["sampler"] == "greedy")


def test_bad_values_are_named():
    with pytest.raises(ValueError, match="repeats=0"):
        AutoregressiveBenchConfig(repeats=0)
    with pytest.raises(ValueError, match="shards=None: must name shards beside world=there"):
        AutoregressiveBenchConfig(world="there")


@pytest.mark.slow
def test_all_tables(monkeypatch):
    monkeypatch.setattr(autoregressive, "NETS", {"nano": TINY, "26M": TINY})
    names = [name for name, _ in bench_autoregressive(QUICK)]
    assert names == ["limit", "agreement", "decode", "positions", "drafts", "stream"]
    assert set(names) <= set(autoregressive.TITLES)
