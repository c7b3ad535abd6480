"""Every published configuration through every kind of file, at reduced width, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from openwfm.commands import convert as command
from openwfm.config import build, compose
from openwfm.interop.diffusers_folder import read_diffusers_tokenizer, write_diffusers_tokenizer
from openwfm.interop.release_files import read_release, release_tensors
from openwfm.interop.tokenizer import load_nvidia_tokenizer
from openwfm.interop.tokenizer_convert import (
    ConvertTokenizerConfig,
    Found,
    preset_of,
    read_tokenizer,
    write_tokenizer,
)
from openwfm.interop.training_checkpoint import read_training_checkpoint
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, preset
from openwfm.tokenizer.presets import PRESETS
from openwfm.tokenizer.statistics import read_statistics

PUBLISHED = [name for name in PRESETS if not name.endswith("nano")]
Archive = Callable[..., Path]
HALVES = {"encoder": ("encoder.", "quant_conv."), "decoder": ("decoder.", "post_quant_conv.")}


def narrow(name: str) -> TokenizerConfig:
    """A published configuration with fewer and narrower layers."""
    config = preset(name)
    levels = len(config.channels_mult)
    return replace(config, channels=32, channels_mult=(1,) * levels, num_res_blocks=1)


def tokenizer_of(config: TokenizerConfig) -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizer(config).eval().requires_grad_(False)


def read(source: Path, **values: object) -> VideoTokenizer:
    given = {"source": str(source), "out": "nowhere", **values}
    return read_tokenizer(ConvertTokenizerConfig(**given)).tokenizer  # type: ignore[arg-type]


def same(one: VideoTokenizer, other: VideoTokenizer) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return one.config == other.config and all(torch.equal(ours[n], theirs[n]) for n in ours)


def half(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """As the release's split archives: a discrete decoder has the quantiser under `inv_quant`."""
    part = {n: t for n, t in tensors.items() if n.startswith(HALVES[name])}
    before = "inv_quant." if name == "decoder" else ""
    return part | {before + n: t for n, t in tensors.items() if n.startswith("quantizer.")}


def test_there_are_sixteen() -> None:
    assert len(PUBLISHED) == 16


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_round_trip(name: str, tmp_path: Path) -> None:
    """To the release's names and back, the config found out from them alone."""
    tokenizer = tokenizer_of(narrow(name))
    found = Found(tokenizer, [], None)
    write_tokenizer(found, tmp_path / "release.safetensors", "release")
    assert same(read(tmp_path / "release.safetensors"), tokenizer)
    assert load_file(tmp_path / "release.safetensors").keys() == release_tensors(tokenizer).keys()


@pytest.mark.parametrize("name", ["cv8x16x16", "dv4x8x8_360p", "di8x8"])
def test_every_kind_of_file(name: str, tmp_path: Path, save_archive: Archive) -> None:
    """Whole archive, halves, training checkpoint, our folder."""
    tokenizer = tokenizer_of(narrow(name))
    tensors = release_tensors(tokenizer)
    levels = tokenizer.config.fsq_levels
    save_archive(tmp_path / "whole" / "autoencoder.jit", tensors)
    for part in HALVES:
        save_archive(tmp_path / "split" / f"{part}.jit", half(tensors, part), trace=True)
    bare = {n: t for n, t in tensors.items() if n.endswith((".weight", ".bias"))}
    network = {f"network.{n}": torch.zeros_like(t) for n, t in bare.items()}
    average = {f"ema.network-{n.replace('.', '-')}": t for n, t in bare.items()}
    torch.save({"model": network | average, "iteration": 7}, tmp_path / "model.pt")
    for source in ("whole", "split", "split/encoder.jit", "split/decoder.jit"):
        assert same(read(tmp_path / source), tokenizer), source
    assert same(read(tmp_path / "model.pt", fsq_levels=levels), tokenizer)
    raw = read(tmp_path / "model.pt", fsq_levels=levels, average=False)
    assert all(not t.any() for t in raw.state_dict().values())
    write_tokenizer(Found(tokenizer, [], None), tmp_path / "ours", "openwfm")
    assert same(read(tmp_path / "ours"), tokenizer)


@pytest.mark.parametrize("name, count", [("cv8x8x8", 315), ("dv8x16x16", 326)])
def test_counts_of_the_reference(name: str, count: int) -> None:
    """Reference 3.1: parameters, five constants of the wavelet, and three of a quantiser."""
    config = replace(preset(name), channels=2)
    assert len(release_tensors(VideoTokenizer(config))) == count


@pytest.mark.parametrize("name", ["cv8x8x8", "cv8x16x16", "cv4x8x8", "cv4x8x8_360p"])
def test_diffusers_folders_both_ways(name: str, tmp_path: Path) -> None:
    """Theirs reads what ours wrote, and ours what theirs wrote; outputs are equal."""
    diffusers = pytest.importorskip("diffusers")
    tokenizer = tokenizer_of(narrow(name))
    write_diffusers_tokenizer(tmp_path / "ours", tokenizer)
    theirs = diffusers.AutoencoderKLCosmos.from_pretrained(tmp_path / "ours").eval()
    video = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    with torch.no_grad():
        wanted = theirs.encode(video).latent_dist.mode()
    torch.testing.assert_close(tokenizer.encode(video), wanted, rtol=1e-4, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    assert same(read(tmp_path / "theirs"), tokenizer)


def test_statistics_travel_with_the_weights(tmp_path: Path, save_archive: Archive) -> None:
    """mean_std.pt of the release → ours → diffusers' config → ours."""
    tokenizer = tokenizer_of(narrow("cv8x8x8"))
    save_archive(tmp_path / "release" / "autoencoder.jit", release_tensors(tokenizer))
    mean, std = torch.randn(16, 16), torch.rand(16, 16) + 0.5
    torch.save((mean.flatten(), std.flatten()), tmp_path / "release" / "mean_std.pt")
    for source, out, form in (
        ("release", "ours", "openwfm"),
        ("ours", "theirs", "diffusers"),
        ("theirs", "again", "openwfm"),
    ):
        request = ConvertTokenizerConfig(
            source=str(tmp_path / source), out=str(tmp_path / out), format=form
        )
        write_tokenizer(read_tokenizer(request), request.out, form)
    found = read_statistics(tmp_path / "again")
    assert found is not None
    assert torch.equal(found.frame_mean, mean)
    torch.testing.assert_close(found.frame_std, std, rtol=1e-6, atol=0)


def test_an_average_can_be_required(tmp_path: Path) -> None:
    weight = torch.ones(1)
    torch.save({"model": {"network.a.weight": weight, "loss.vgg": weight}}, tmp_path / "m.pt")
    tensors, averaged = read_training_checkpoint(tmp_path / "m.pt")
    assert list(tensors) == ["a.weight"] and not averaged
    with pytest.raises(ValueError, match="average=true: .*holds no moving average"):
        read_training_checkpoint(tmp_path / "m.pt", average=True)
    torch.save({"optimizer": {}}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match="holds no tensors by name .it has optimizer"):
        read_training_checkpoint(tmp_path / "m.pt")


def test_an_average_that_lacks_a_tensor_is_not_filled_up(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(narrow("cv8x8x8"))
    tensors = release_tensors(tokenizer)
    average = {f"ema.network-{n.replace('.', '-')}": t for n, t in tensors.items()}
    del average["ema.network-encoder-norm_out-norm-bias"]
    network = {f"network.{n}": t for n, t in tensors.items()}
    torch.save({"model": network | average}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="1 keys do not fit:\n *missing encoder.norm_out.bias"):
        read(tmp_path / "model.pt")


def test_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return made.mkdir.__func__, (made,)  # type: ignore[attr-defined]

    torch.save({"model": {"a": Evil()}}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        read(tmp_path / "model.pt")
    assert not made.exists()


def test_halves_must_belong_together(tmp_path: Path, save_archive: Archive) -> None:
    tensors = release_tensors(tokenizer_of(narrow("cv8x8x8")))
    save_archive(tmp_path / "encoder.jit", half(tensors, "encoder"))
    with pytest.raises(ValueError, match="decoder.jit: no such file; a tokenizer is encoder.jit"):
        read_release(tmp_path)
    shared = {"quantizer._levels": torch.tensor([8, 5])}
    save_archive(tmp_path / "encoder.jit", half(tensors, "encoder") | shared)
    other = {"quantizer._levels": torch.tensor([8, 8])}
    save_archive(tmp_path / "decoder.jit", half(tensors, "decoder") | other)
    with pytest.raises(ValueError, match="differ in quantizer._levels; they are not halves"):
        read_release(tmp_path)


def test_what_differs_is_listed(tmp_path: Path, save_archive: Archive) -> None:
    tensors = dict(release_tensors(tokenizer_of(narrow("cv8x8x8"))))
    tensors["decoder.extra.weight"] = torch.zeros(3)
    tensors["decoder.norm_out.norm.weight"] = torch.zeros(5)
    del tensors["post_quant_conv.conv3d.bias"]
    save_archive(tmp_path / "autoencoder.jit", tensors)
    with pytest.raises(ValueError) as caught:
        read(tmp_path)
    text = str(caught.value)
    assert "3 keys do not fit" in text
    assert "unknown decoder.extra.weight (3,)" in text
    assert "misshapen decoder.norm_out.weight: (5,) in the file, (32,) in the model" in text
    assert "missing from_latents.bias (16,)" in text


def test_half_precision_files_load_in_fp32(tmp_path: Path, save_archive: Archive) -> None:
    tokenizer = tokenizer_of(narrow("cv8x8x8")).bfloat16()
    save_archive(tmp_path / "autoencoder.jit", release_tensors(tokenizer))
    loaded = read(tmp_path)
    assert loaded.from_latents.weight.dtype == torch.float32
    assert torch.equal(loaded.from_latents.weight, tokenizer.from_latents.weight.float())


@pytest.mark.parametrize("files, message", [
    ({}, "has none of autoencoder.jit, encoder.jit, decoder.jit, model.pt"),
    ({"model.pt": b"junk"}, "model.pt: (not a whole checkpoint|holds more)"),
    ({"autoencoder.jit": b"PK\x03\x04junk"}, "autoencoder.jit: not a whole"),
    ({"encoder.jit": b"", "decoder.jit": b""}, "encoder.jit: not a whole TorchScript archive"),
    ({"config.json": b'{"_class_name": "AutoencoderKLCosmos"}'}, "config.json: lacks encoder_blo"),
    ({"config.json": b"{"}, "config.json: not a readable JSON file"),
])  # fmt: skip
def test_strange_folders(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_strange_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing: no such file"):
        read(tmp_path / "nothing")
    save_file({"layers.0.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not a video tokenizer of the release"):
        read(tmp_path / "x.safetensors")
    tensors = release_tensors(tokenizer_of(narrow("dv8x8x8")))
    bare = {n: t for n, t in tensors.items() if not n.startswith("quantizer.")}
    save_file(bare, tmp_path / "y.safetensors")
    with pytest.raises(ValueError, match=r"fsq_levels=None: .*published ones have \(8, 8, 8, 5"):
        read(tmp_path / "y.safetensors")


@pytest.mark.parametrize("values, message", [
    ({"format": "onnx"}, "convert.format=onnx: must be one of openwfm, diffusers, release"),
    ({"format": "release"}, "convert.out=o: must be a file.safetensors for format=release"),
    ({"out": "o.safetensors"}, "must be a file.safetensors for format=release, else a folder"),
    ({"out": "a"}, "convert.out=a: must not be in=a"),
])  # fmt: skip
def test_bad_requests(values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvertTokenizerConfig(**({"source": "a", "out": "o"} | values))


def test_presets_are_recognised() -> None:
    assert preset_of(preset("cv8x8x8")) == "preset cv8x8x8"
    assert preset_of(replace(preset("di8x8"), attention_window=None)) == "preset di8x8"
    assert preset_of(replace(preset("cv8x8x8"), channels=64)).endswith("but for channels=64")


def test_the_config_names_every_field() -> None:
    built = build(compose("convert", ["kind=tokenizer", "in=a", "out=b"]).tokenizer)
    assert built == ConvertTokenizerConfig(source="a", out="b")


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], save_archive: Archive
) -> None:
    tokenizer = tokenizer_of(replace(preset("dv4x8x8_nano"), channels=8))
    save_archive(tmp_path / "autoencoder.jit", release_tensors(tokenizer))
    words = ["kind=tokenizer", f"in={tmp_path / 'autoencoder.jit'}", f"out={tmp_path / 'ours'}"]
    assert command.main(compose("convert", words)) == 0
    shown = capsys.readouterr().out
    assert "TorchScript archive, its code left alone" in shown
    assert "video tokenizer 4x8x8, 64,000 codes" in shown
    assert "no preset; dv4x8x8_nano but for channels=8" in shown
    assert same(read(tmp_path / "ours"), tokenizer)


def test_unused_resampling_needs_to_be_told(tmp_path: Path, save_archive: Archive) -> None:
    """As `load_nvidia_tokenizer`, through the config."""
    tokenizer = tokenizer_of(narrow("cv8x8x8"))
    tensors = dict(release_tensors(tokenizer))
    tensors["encoder.down.1.downsample.conv1.conv3d.weight"] = torch.zeros(32, 32, 1, 3, 3)
    tensors["encoder.down.1.downsample.conv1.conv3d.bias"] = torch.zeros(32)
    save_archive(tmp_path / "autoencoder.jit", tensors)
    with pytest.raises(ValueError, match="keys do not fit"):
        read(tmp_path)
    assert same(read(tmp_path, spatial_compression=8), tokenizer)
    assert same(load_nvidia_tokenizer(tensors, spatial_compression=8), tokenizer)


def test_default_statistics_of_diffusers_are_read(tmp_path: Path) -> None:
    """256 values, channel-major: 16 channels of 16 latent frames (reference, diffusion 10)."""
    diffusers = pytest.importorskip("diffusers")
    small = {"encoder_block_out_channels": (8,) * 4, "decode_block_out_channels": (8,) * 4}
    diffusers.AutoencoderKLCosmos(**small, num_layers=1).save_pretrained(tmp_path)
    _, statistics = read_diffusers_tokenizer(tmp_path)
    assert statistics is not None and statistics.frame_mean.shape == (16, 16)
    assert statistics.frame_mean[0, 0].item() == pytest.approx(0.11363, abs=1e-5)
    assert statistics.frame_mean[1, 0].item() == pytest.approx(0.19125, abs=1e-5)
