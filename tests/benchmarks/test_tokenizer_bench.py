"""The tokenizer benchmark on networks and clips that cost nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from openwfm.benchmarks import tokenizer as bench
from openwfm.benchmarks.table import _shown, measured
from openwfm.benchmarks.tokenizer import TokenizerBenchConfig, by_turns, compare, compare_training
from openwfm.benchmarks.tokenizer_memory import Peak, decode_in_tiles, decode_once, decode_stream
from openwfm.files import read_json, write_json
from openwfm.provenance import machine
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer

TINY = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)
ONCE = TokenizerBenchConfig(repeats=1)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(bench, "CONFIGS", dict.fromkeys(bench.CONFIGS, TINY))


def test_defaults_are_those_of_the_yaml() -> None:
    conf = Path(__file__).parents[2] / "conf" / "bench.yaml"
    values = yaml.safe_load(conf.read_text())
    node = values["tokenizer"]
    assert node.pop("_target_") == "openwfm.benchmarks.tokenizer.TokenizerBenchConfig"
    given = {name: values[value.strip("${}")] for name, value in node.items()}
    assert TokenizerBenchConfig(**given) == TokenizerBenchConfig()


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="repeats=0"):
        TokenizerBenchConfig(repeats=0)


def test_pieces_that_are_not_there_are_named() -> None:
    with pytest.raises(ValueError, match="tables=.*some of ceilings, speed"):
        TokenizerBenchConfig(tables=("sped",))
    with pytest.raises(ValueError, match="cases=.*some of nano 17x64x64"):
        TokenizerBenchConfig(cases=("nano 17x64",))


def test_pieces_are_put_together_in_one_file(tmp_path: Path) -> None:
    """Rows that were measured again are replaced, other rows and tables stay."""
    file = tmp_path / "tokenizer.json"

    def piece(case: str, ms: float) -> None:
        settings = TokenizerBenchConfig(tables=("speed",), cases=(case,))
        net, clip = case.split()
        rows = [{"net": net, "clip": clip, "does": "encode", "ours_ms": ms}]
        found = measured(file, settings, [("speed", rows)], bench.TITLES)
        write_json(file, {"machine": machine(), **found})

    write_json(file, {"machine": machine(), "settings": {}, "tiles": [{"ratio": 2.0}]})
    for case, ms in (("nano 17x64x64", 1.0), ("small 17x64x64", 2.0), ("nano 17x64x64", 3.0)):
        piece(case, ms)
    found = read_json(file)
    assert [(row["net"], row["ours_ms"]) for row in found["speed"]] == [
        ("small", 2.0),
        ("nano", 3.0),
    ]
    assert found["tiles"] == [{"ratio": 2.0}]
    write_json(file, {**found, "machine": {"cores": 999}})
    with pytest.raises(ValueError, match="measured elsewhere"):
        piece("nano 17x64x64", 4.0)


def test_turns_alternate() -> None:
    calls: list[str] = []
    seconds = by_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert calls == list("ababab")
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_rows_hold_figures_that_fit_together() -> None:
    encode, decode = compare("nano", (9, 16, 16), ONCE)
    assert (encode["does"], decode["does"]) == ("encode", "decode")
    for row in (encode, decode):
        assert row["ratio"] == pytest.approx(row["theirs_ms"] / row["ours_ms"])
        faster = row["ours_gflop_per_second"] / row["theirs_gflop_per_second"]
        assert faster == pytest.approx(row["ratio"])
        assert 0 <= row["difference"] < 1e-5
    training = compare_training(ONCE)
    assert training["ratio"] == pytest.approx(
        training["ours_samples_per_second"] / training["theirs_samples_per_second"]
    )


def test_a_wrong_network_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = VideoTokenizer.encode

    def wrong(self: VideoTokenizer, video: Tensor) -> Tensor:
        return right(self, video) * 1.001

    monkeypatch.setattr(VideoTokenizer, "encode", wrong)
    with pytest.raises(AssertionError, match="encode differs by 1.0e-03"):
        compare("nano", (9, 16, 16), ONCE)


def test_peak_sees_what_is_gone_again() -> None:
    memory = Peak()
    gone = torch.ones(32 * 2**18)  # 32 MiB
    del gone
    assert 30 < memory.mib() < 80
    assert Peak().mib() < 8


def test_memory_of_a_longer_stream_is_that_of_a_short_one() -> None:
    """State and latents only: nothing is kept of what came out."""
    decode_stream(TINY, 17)
    short, _ = decode_stream(TINY, 17)
    long, seconds = decode_stream(TINY, 801)
    assert long < short + 4 and seconds > 0
    assert decode_once(replace(TINY), (17, 64, 64), False) > 0


def test_numbers_are_short() -> None:
    assert [_shown(x) for x in (123.456, 1.2345, 1.234e-6, "nano", 4)] == [
        "123",
        "1.23",
        "1.2e-06",
        "nano",
        "4",
    ]


def test_tiles_and_whole_frames_give_the_same_pixels() -> None:
    (_, _, whole), (_, _, tiled) = (decode_in_tiles(TINY, (9, 64, 64), t) for t in (None, 32))
    assert whole.shape == (1, 3, 9, 4, 4)
    torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-5)
