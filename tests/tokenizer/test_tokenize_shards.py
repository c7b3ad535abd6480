"""Latents in shards equal those of the clips, whoever wrote them, killed on the way or not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openwfm.commands import tokenize as command
from openwfm.config import build, compose
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.latent_shards import LatentShards
from openwfm.data.shards import ShardIndex
from openwfm.data.windows import Window, decode_clip
from openwfm.files import read_json, sha256_file, write_json
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, load_tokenizer
from openwfm.tokenizer import shards as tokenize
from openwfm.tokenizer.shards import TokenizeShardsConfig, measure_statistics, tokenize_shards
from openwfm.tokenizer.statistics import read_statistics
from openwfm.video import from_uint8
from openwfm.weights import plain, save_weights

NET = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)
DISCRETE = replace(NET, latent_channels=2, fsq_levels=(8, 5))


def publish(folder: Path, net: TokenizerConfig) -> str:
    torch.manual_seed(0)
    config = {"kind": "tokenizer", "net": plain(asdict(net)), "data": {"num_frames": 17}}
    save_weights(folder, config, VideoTokenizer(net).state_dict())
    return str(folder)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def clips(make_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_shards(tmp_path_factory.mktemp("clips"), num_sources=4))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("tokenizer"), NET)


def request(weights: str, clips: str, out: Path, **values: object) -> TokenizeShardsConfig:
    return TokenizeShardsConfig(tokenizer=weights, source=clips, out=str(out), **values)  # type: ignore[arg-type]


def frames_of(clips: str, key: str) -> torch.Tensor:
    data = ShardIndex.open(clips).read(key, "mp4")
    return from_uint8(torch.from_numpy(decode_clip(data, key)))[None]


@pytest.mark.parametrize("chunk", [1, 3])
def test_whole_clips_are_streamed(weights: str, clips: str, tmp_path: Path, chunk: int) -> None:
    config = request(weights, clips, tmp_path / "z", chunk=chunk, attention_window=None)
    done = tokenize_shards(config)
    assert (done.num_clips, done.num_encoded, done.num_latents) == (8, 8, 8 * 4)
    stored, tokenizer = LatentShards.open(tmp_path / "z"), load_tokenizer(weights)
    assert stored.index.keys == ShardIndex.open(clips).keys
    for key in stored.index.keys[::3]:
        with torch.no_grad():
            wanted = tokenizer.encode(frames_of(clips, key))
        assert np.allclose(stored.array(key), wanted.numpy(), rtol=2e-3, atol=2e-4)
        assert stored.index.metadata(key) == ShardIndex.open(clips).metadata(key)


def test_the_training_window_limits_what_whole_clips_serve(
    weights: str, clips: str, tmp_path: Path
) -> None:
    """Attention to 3 latent frames: the first 17 frames are those of any clip, 25 are not."""
    tokenize_shards(request(weights, clips, tmp_path / "z"))
    stored = LatentShards.open(tmp_path / "z")
    key = stored.index.keys[0]
    with torch.no_grad():
        wanted = load_tokenizer(weights).encode(frames_of(clips, key)[:, :, :17])[0]
    torch.testing.assert_close(stored.read(Window(key, 0, 17)), wanted, rtol=2e-3, atol=2e-4)
    with pytest.raises(ValueError, match="whole clips, attending to 3 latent frames; none of the"):
        stored.read(Window(key, 0, 25))
    with pytest.raises(ValueError, match="none of the 9 frames from 1 of clip"):
        stored.read(Window(key, 1, 9))


@pytest.mark.parametrize("net", [NET, DISCRETE])
def test_the_data_module_reads_windows(
    net: TokenizerConfig, clips: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches hold what the tokenizer makes of the same windows' pixels, and nobody encodes."""
    folder = publish(tmp_path / "weights", net)
    tokenize_shards(request(folder, clips, tmp_path / "z", num_frames=9, stride=4))
    values = {"shards": clips, "num_frames": 9, "window_stride": 8, "batch_size": 4}
    data = ShardDataModule(config=DataConfig(**values, latents=str(tmp_path / "z")))

    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("encoded")

    data.prepare_latents(refuse, sha256_file(Path(folder) / "model.safetensors"))
    batch = next(iter(data.train_dataloader()))
    pixels = next(iter(ShardDataModule(config=DataConfig(**values)).train_dataloader()))
    assert batch.key == pixels.key and batch.video is None and pixels.video is not None
    tokenizer = load_tokenizer(folder)
    with torch.no_grad():
        if net.fsq_levels is None:
            wanted = tokenizer.encode(pixels.video)
            torch.testing.assert_close(batch.latents, wanted, rtol=2e-3, atol=2e-4)
            assert batch.tokens is None
        else:
            assert batch.tokens is not None and batch.latents is None
            assert batch.tokens.dtype == torch.int32
            assert torch.equal(batch.tokens, tokenizer.encode_indices(pixels.video))


def test_windows_that_are_not_there_are_refused(weights: str, clips: str, tmp_path: Path) -> None:
    tokenize_shards(request(weights, clips, tmp_path / "z", num_frames=9, stride=4))
    sha = sha256_file(Path(weights) / "model.safetensors")

    def module(**values: object) -> ShardDataModule:
        given = {"shards": clips, "latents": str(tmp_path / "z"), "num_frames": 9, **values}
        return ShardDataModule(config=DataConfig(**given))  # type: ignore[arg-type]

    module(window_stride=4).prepare_latents(torch.abs, sha)
    with pytest.raises(ValueError, match="windows of 9 frames, every 4 frames; none of the 9 fra"):
        module(window_stride=2).prepare_latents(torch.abs, sha)
    with pytest.raises(ValueError, match="none of the 17 frames from 0"):
        module(window_stride=4, num_frames=17).prepare_latents(torch.abs, sha)
    with pytest.raises(ValueError, match="latents of a tokenizer with weights .*, not abc"):
        module(window_stride=4).prepare_latents(torch.abs, "abc")


def test_a_killed_run_goes_on_and_ends_the_same(
    weights: str, clips: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenize_shards(request(weights, clips, tmp_path / "whole", num_frames=17))
    encode, calls = tokenize._Clips.encode, []

    def dying(self: tokenize._Clips, key: str) -> torch.Tensor | None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(key)
        return encode(self, key)

    monkeypatch.setattr(tokenize._Clips, "encode", dying)
    config = request(weights, clips, tmp_path / "killed", num_frames=17)
    with pytest.raises(KeyboardInterrupt):
        tokenize_shards(config)
    assert not LatentShards.is_one(tmp_path / "killed")
    monkeypatch.setattr(tokenize._Clips, "encode", encode)
    with pytest.raises(ValueError, match="holds other latents .windows of 17 frames, every 17"):
        tokenize_shards(replace(config, num_frames=9))
    assert tokenize_shards(config).num_encoded == 5
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert tokenize_shards(config).num_encoded == 0, "nothing is left to do"
    with pytest.raises(ValueError, match="holds other latents"):
        tokenize_shards(replace(config, stride=1))


def test_clips_that_are_too_short_are_left_out(weights: str, clips: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_frames=33: longer than every clip"):
        tokenize_shards(request(weights, clips, tmp_path / "z", num_frames=33))
    assert not LatentShards.is_one(tmp_path / "z")
    with pytest.raises(ValueError, match="num_frames=18: must be 1 . 8·n .nearest: 17 or 25"):
        tokenize_shards(request(weights, clips, tmp_path / "z", num_frames=18))


def test_damaged_folders_are_refused(weights: str, clips: str, tmp_path: Path) -> None:
    tokenize_shards(request(weights, clips, tmp_path / "z"))
    facts = read_json(tmp_path / "z" / "latents.json")
    write_json(tmp_path / "z" / "latents.json", {**facts, "more": 1})
    with pytest.raises(ValueError, match="latents.json: must hold attention_window, discrete"):
        LatentShards.open(tmp_path / "z")
    write_json(tmp_path / "z" / "latents.json", {**facts, "discrete": True})
    stored = LatentShards.open(tmp_path / "z")
    with pytest.raises(ValueError, match="float16 of shape .*: not latents"):
        stored.array(stored.index.keys[0])


@pytest.mark.parametrize("net", [NET, DISCRETE])
def test_statistics_equal_numpy(net: TokenizerConfig, clips: str, tmp_path: Path) -> None:
    """Of clips and of the latents of clips; the second only rounds to fp16."""
    folder = publish(tmp_path / "weights", net)
    config = TokenizeShardsConfig(tokenizer=folder, source=clips, num_frames=9, stride=4)
    measured = measure_statistics(config)
    tokenizer, parts = load_tokenizer(folder), []
    for key in ShardIndex.open(clips).keys:
        video = frames_of(clips, key)
        with torch.no_grad():
            parts += [tokenizer.encode(video[:, :, s : s + 9]) for s in range(0, 17, 4)]
    latents = torch.cat(parts).double().numpy()
    assert np.allclose(measured.frame_mean, latents.mean((0, 3, 4)), rtol=1e-5, atol=1e-7)
    assert np.allclose(measured.frame_std, latents.std((0, 3, 4)), rtol=1e-5, atol=1e-6)
    assert np.allclose(measured.mean, latents.mean((0, 2, 3, 4)), rtol=1e-5, atol=1e-7)
    assert np.allclose(measured.std, latents.std((0, 2, 3, 4)), rtol=1e-5, atol=1e-6)
    assert measured.count.tolist() == [latents[:, 0, 0].size] * 2
    tokenize_shards(replace(config, out=str(tmp_path / "z")))
    again = measure_statistics(replace(config, source=str(tmp_path / "z")))
    torch.testing.assert_close(again.frame_std, measured.frame_std, rtol=1e-3, atol=1e-5)
    read = read_statistics(folder)
    assert read is not None and torch.equal(read.frame_mean, again.frame_mean)


@pytest.mark.parametrize("values, message", [
    ({"stride": 4}, "stride=4: must be null without num_frames"),
    ({"num_frames": 0}, "num_frames=0: must be a whole number, at least 1"),
    ({"num_frames": 9, "stride": 0}, "stride=0: must be a whole number"),
    ({"chunk": None}, "chunk=None: must be a whole number"),
    ({"attention_window": "all"}, "attention_window=all: must be a number, training or null"),
    ({"out": "clips"}, "out=clips: must not be a folder of the clips"),
])  # fmt: skip
def test_bad_requests(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizeShardsConfig(**({"tokenizer": "w", "source": "clips"} | values))  # type: ignore[arg-type]


def test_the_config_names_every_field() -> None:
    built = build(compose("tokenize", ["kind=shards", "in=a", "tokenizer=w", "chunk=1"]).shards)
    assert built == TokenizeShardsConfig(tokenizer="w", source="a")


def test_the_commands(
    weights: str, clips: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"tokenizer={weights}", f"in={clips}", f"out={tmp_path / 'z'}", "num_frames=17"]
    assert command.main(compose("tokenize", ["kind=shards", *words])) == 0
    assert "latents of 8 clips (8 encoded now), 24 latent frames" in capsys.readouterr().out
    words = [f"tokenizer={weights}", f"in={tmp_path / 'z'}"]
    assert command.main(compose("tokenize", ["kind=statistics", *words])) == 0
    assert "latents.safetensors: 3 latent frames" in capsys.readouterr().out
    with pytest.raises(ValueError, match="kind=clip: must be one of video, shards, statistics"):
        command.main(compose("tokenize", ["kind=clip", *words]))
    with pytest.raises(ValueError, match="out: needs a value"):
        command.main(compose("tokenize", ["kind=shards", *words]))
