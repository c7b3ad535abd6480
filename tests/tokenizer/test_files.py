"""Disk to disk equals memory to memory, refuses what does not fit, and carries a fixed state."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from openwfm.commands import tokenize as command
from openwfm.config import compose
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, load_tokenizer
from openwfm.tokenizer.files import TokenizeConfig, detokenize_file, tokenize_file
from openwfm.video import from_uint8, read_video, to_uint8, write_video
from openwfm.weights import plain, save_weights

NET = TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1)


def publish(folder: Path, net: TokenizerConfig, *, data: bool = True) -> str:
    torch.manual_seed(net.latent_channels)
    config = {"kind": "tokenizer", "net": plain(asdict(net))}
    facts = {"data": {"num_frames": 17}} if data else {}
    save_weights(folder, config | facts, VideoTokenizer(net).state_dict())
    return str(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("tokenizer"), NET)


def film(path: Path, num_frames: int, height: int = 16, width: int = 24) -> str:
    pixels = np.random.default_rng(0).integers(0, 255, (num_frames, height, width, 3), np.uint8)
    write_video(path, torch.from_numpy(pixels), 24)
    return str(path)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("chunk", [1, 3])
def test_there_and_back(discrete: bool, chunk: int, tmp_path: Path) -> None:
    net = replace(NET, latent_channels=2, fsq_levels=(8, 5)) if discrete else NET
    folder = publish(tmp_path / "weights", net)
    source, middle, out = film(tmp_path / "in.mp4", 33), tmp_path / "z.safetensors", "out.mp4"
    forth = TokenizeConfig(
        tokenizer=folder, source=source, out=str(middle), chunk=chunk, attention_window=None
    )
    report = tokenize_file(forth)
    assert (report.num_frames, report.num_latents) == (33, 5)
    tokenizer = load_tokenizer(folder)
    video = from_uint8(read_video(source)[0])[None]
    with torch.no_grad():
        wanted = tokenizer.encode(video)[0].transpose(0, 1)
    stored = load_file(middle)
    if discrete:
        stored = {"latents": tokenizer.codes(stored.pop("indices")[None])[0].transpose(0, 1)}
    assert list(stored) == ["latents"]
    torch.testing.assert_close(stored["latents"], wanted, rtol=1e-5, atol=1e-5)

    back = replace(forth, source=str(middle), out=str(tmp_path / out))
    assert detokenize_file(back).num_frames == 33
    with torch.no_grad():
        latents = stored["latents"].transpose(0, 1)[None].contiguous()
        write_video(tmp_path / "wanted.mp4", to_uint8(tokenizer.decode(latents)[0]), 24)
    ours, fps = read_video(tmp_path / out)
    difference = ours.int() - read_video(tmp_path / "wanted.mp4")[0].int()
    assert fps == 24 and difference.abs().max() <= 8  # a rounded pixel, and what H.264 makes of it


def test_any_size_with_padding(weights: str, tmp_path: Path) -> None:
    source, middle = film(tmp_path / "in.mp4", 14, 18, 22), str(tmp_path / "z.safetensors")
    request = TokenizeConfig(tokenizer=weights, source=source, out=middle)
    with pytest.raises(ValueError, match="height=18: must be a multiple of 8"):
        tokenize_file(request)
    assert not Path(middle).exists(), "whole or absent"
    assert tokenize_file(replace(request, pad="replicate")).num_latents == 3
    detokenize_file(replace(request, source=middle, out=str(tmp_path / "out.mp4")))
    assert read_video(tmp_path / "out.mp4")[0].shape == (14, 18, 22, 3)
    short = replace(request, source=film(tmp_path / "short.mp4", 14))
    with pytest.raises(ValueError, match="after 14 frames, inside a group of 8: 3 frames are mis"):
        tokenize_file(short)


def test_the_state_does_not_grow_with_the_video(weights: str, tmp_path: Path) -> None:
    """With the window of the training clips, 17 frames: 3 latent frames."""
    sizes = []
    for num_frames in (41, 121):
        source, middle = film(tmp_path / "in.mp4", num_frames, 8, 8), tmp_path / "z.safetensors"
        request = TokenizeConfig(tokenizer=weights, source=source, out=str(middle))
        there = tokenize_file(request)
        back = replace(request, source=str(middle), out=str(tmp_path / "out.mp4"))
        sizes.append((there.num_state_elements, detokenize_file(back).num_state_elements))
    assert sizes[0] == sizes[1]


def test_strangers_are_refused(weights: str, tmp_path: Path) -> None:
    source, middle = film(tmp_path / "in.mp4", 9), tmp_path / "z.safetensors"
    request = TokenizeConfig(tokenizer=weights, source=source, out=str(middle))
    tokenize_file(request)
    back = replace(request, source=str(middle), out=str(tmp_path / "out.mp4"))
    other = publish(tmp_path / "other", replace(NET, latent_channels=4))
    with pytest.raises(ValueError, match="did not write"):
        detokenize_file(replace(back, tokenizer=other))
    whole = middle.read_bytes()
    middle.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        detokenize_file(back)
    save_file({"latents": torch.zeros(1)}, middle)
    with pytest.raises(ValueError, match="must be written by openwfm tokenize"):
        detokenize_file(back)
    mute = publish(tmp_path / "mute", NET, data=False)
    with pytest.raises(ValueError, match="does not say data.num_frames"):
        tokenize_file(replace(request, tokenizer=mute))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"out": "z.mp4"}, "out=z.mp4: must end in .safetensors for a video"),
        ({"source": "z.safetensors"}, "and in .mp4 for in="),
        ({"pad": "zero"}, "pad=zero: must be replicate or None"),
        ({"chunk": 0}, "chunk=0: must be a whole number, at least 1"),
        ({"chunk": 1.5}, "chunk=1.5: must be a whole number, at least 1"),
        ({"attention_window": "all"}, "attention_window=all: must be a number, training or null"),
        ({"attention_window": 0}, "attention_window=0: must be a whole number"),
    ],
)
def test_bad_requests(values: dict[str, object], message: str) -> None:
    good = {"tokenizer": "w", "source": "in.mp4", "out": "z.safetensors"}
    with pytest.raises(ValueError, match=message):
        TokenizeConfig(**(good | values))  # type: ignore[arg-type]


def test_the_command(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, middle = film(tmp_path / "in.mp4", 17), tmp_path / "z.safetensors"
    words = [f"tokenizer={weights}", f"in={source}", f"out={middle}"]
    assert command.main(compose("tokenize", words)) == 0
    assert "17 frames, 3 latent frames" in capsys.readouterr().out
    words = [f"tokenizer={weights}", f"in={middle}", f"out={tmp_path / 'out.mp4'}"]
    assert command.main(compose("tokenize", words)) == 0
    assert read_video(tmp_path / "out.mp4")[0].shape == (17, 16, 24, 3)
