"""``openwfm convert world``: the release's files, ours, and what a format cannot hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openwfm.commands import convert as command
from openwfm.config import build, compose
from openwfm.diffusion import DiffusionWorldModel, DiT, DiTConfig, load_world_model
from openwfm.diffusion.config import ConditionerConfig, EdmConfig, SamplerConfig
from openwfm.files import read_json
from openwfm.interop.nvidia import export_dit, load_dit
from openwfm.interop.release_files import release_tensors
from openwfm.interop.tokenizer_convert import Found, write_tokenizer
from openwfm.interop.world_convert import (
    ConvertWorldConfig,
    FoundWorld,
    read_world,
    release_world,
    write_world,
)
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, load_tokenizer
from openwfm.tokenizer.statistics import read_statistics

NET = DiTConfig(
    in_channels=4,
    out_channels=4,
    width=32,
    num_blocks=1,
    num_heads=2,
    adaln_rank=8,
    text_width=12,
    max_size=(8, 16, 16),
)
TOKENIZER = TokenizerConfig(
    channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=4, latent_channels=4
)


def world(net: DiTConfig = NET, **sampler: object) -> DiffusionWorldModel:
    torch.manual_seed(0)
    model = DiffusionWorldModel(
        net=net,
        objective=EdmConfig(),
        conditioner=ConditionerConfig(
            text_width=12,
            max_frames=2 if net.condition_mask else 0,
            repeat_last=net.extra_channels > 0,
        ),
        sampler=SamplerConfig(num_steps=3, **sampler),  # type: ignore[arg-type]
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.set_latent_statistics(torch.randn(4, 2), torch.rand(4, 2) + 0.5)
    return model.eval()


def release(folder: Path, model: DiffusionWorldModel) -> Path:
    """``model.pt`` and, in ``tokenizer/``, a tokenizer with its ``mean_std.pt``."""
    torch.manual_seed(1)
    folder.mkdir(parents=True)
    torch.save({"model": release_world(model)}, folder / "model.pt")
    place = folder / "tokenizer"
    place.mkdir()
    torch.save(release_tensors(VideoTokenizer(TOKENIZER)), place / "model.pt")
    mean, std = torch.randn(4 * 3), torch.rand(4 * 3) + 0.5
    torch.save((mean, std), place / "mean_std.pt")
    return folder


def published(folder: Path, model: DiffusionWorldModel) -> Path:
    tokenizer = Found(VideoTokenizer(TOKENIZER), ["made here"], None)
    found = FoundWorld(model, tokenizer, [], facts={"step": 7, "data": {"fps": 10.0}})
    assert write_world(found, folder, "openwfm") == []
    return folder


def test_a_release_becomes_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = world()
    source = release(tmp_path / "release", model)
    words = ["kind=world", f"in={source}", f"out={tmp_path / 'ours'}", "fps=24", "num_frames=17"]
    words += [f"tokenizer_files={source / 'tokenizer'}", "size=[32,32]", "rope_dtype=bfloat16"]
    assert command.main(compose("convert", words)) == 0
    printed = capsys.readouterr().out
    assert "model.pt: checkpoint" in printed and "latent statistics of 3 latent frames" in printed
    found = load_world_model(tmp_path / "ours")
    assert found.net.config == replace(NET, rope_dtype="bfloat16")
    for name, tensor in model.net.state_dict().items():
        assert torch.equal(found.net.state_dict()[name], tensor), name
    for name, tensor in model.logvar.state_dict().items():
        assert torch.equal(found.logvar.state_dict()[name], tensor), name
    mean, std = torch.load(source / "tokenizer" / "mean_std.pt")
    assert torch.equal(found.latent_mean, mean.view(4, 3))  # channel-major
    assert torch.equal(found.latent_std, std.view(4, 3))
    config = found.conditioner.config
    assert (config.text_encoder, config.text_tokens, config.max_frames) == ("t5-11b", 512, 2)
    data = read_json(tmp_path / "ours" / "config.json")["data"]
    assert data == {"size": [32, 32], "num_frames": 17, "fps": 24}
    statistics = read_statistics(tmp_path / "ours" / "tokenizer")
    assert statistics is not None and torch.equal(statistics.frame_mean, mean.view(4, 3))
    assert load_tokenizer(tmp_path / "ours" / "tokenizer").config == TOKENIZER


def test_a_world_becomes_a_release_and_a_world_again(tmp_path: Path) -> None:
    model = world(replace(NET, condition_mask=False))
    source = published(tmp_path / "ours", model)
    found = read_world(ConvertWorldConfig(source=str(source), out=str(tmp_path / "x")))
    assert found.facts == {"step": 7, "data": {"fps": 10.0}}
    write_world(found, tmp_path / "x.safetensors", "release")
    tensors = load_file(tmp_path / "x.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {"net", "logvar"}
    again = load_dit(tensors)
    assert again.config == model.net.config
    for name, tensor in model.net.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    write_world(found, tmp_path / "copy", "openwfm")
    for name in ("config.json", "model.safetensors", "tokenizer/model.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (source / name).read_bytes(), name


def test_weights_published_before_a_field_was_added(tmp_path: Path) -> None:
    """They lack it, and mean its default; any other missing key is an error."""
    import json

    source = published(tmp_path / "ours", world())
    config = read_json(source / "config.json")
    for name in ("rope_dtype", "num_views", "view_channels", "codebook", "code_channels"):
        del config["net"][name]
    del config["sampler"]["grid"]
    (source / "config.json").write_text(json.dumps(config))
    model = load_world_model(source)
    assert model.net.config == NET and model.sampler.grid == "release"
    del config["net"]["rope_scale"]
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"missing keys \['rope_scale'\]"):
        load_world_model(source)


@pytest.mark.parametrize(
    "net, sampler, message",
    [
        ({"extra_channels": 4}, {}, "net.extra_channels=4: must be 0 for diffusers"),
        ({"base_fps": 30.0}, {}, "net.base_fps=30.0: must be 24.0 for diffusers"),
        ({"rope_dtype": "bfloat16"}, {}, "rope_dtype=bfloat16: must be float32"),
        ({"position_embedding": "sincos"}, {}, "position_embedding=sincos"),
        ({}, {"kind": "res_2ab"}, "sampler.kind=res_2ab, grid=release: must be euler"),
    ],
)
def test_what_diffusers_cannot_hold(
    tmp_path: Path, net: dict[str, object], sampler: dict[str, object], message: str
) -> None:
    pytest.importorskip("diffusers")
    source = published(tmp_path / "ours", world(replace(NET, **net), **sampler))  # type: ignore
    found = read_world(ConvertWorldConfig(source=str(source), out=str(tmp_path / "x")))
    with pytest.raises(ValueError, match=message):
        write_world(found, tmp_path / "x", "diffusers")
    assert not (tmp_path / "x").exists()


def test_a_release_without_its_tokenizer(tmp_path: Path) -> None:
    source = release(tmp_path / "release", world())
    ask = ConvertWorldConfig(source=str(source), out=str(tmp_path / "x"))
    with pytest.raises(
        ValueError, match=r"convert.tokenizer=None: must be the tokenizer.*mean_std"
    ):
        read_world(ask)
    (source / "tokenizer" / "mean_std.pt").unlink()
    with pytest.raises(ValueError, match="convert.tokenizer=.*latent statistics"):
        read_world(replace(ask, tokenizer=str(source / "tokenizer")))


def test_several_views_are_no_world_yet(tmp_path: Path) -> None:
    source = release(tmp_path / "release", world())
    views = replace(NET, position_embedding="sincos", num_views=3, view_channels=2)
    save_file(export_dit(DiT(views)), source / "model.safetensors")
    ask = ConvertWorldConfig(
        source=str(source / "model.safetensors"),
        out=str(tmp_path / "x"),
        tokenizer=str(source / "tokenizer"),
    )
    with pytest.raises(ValueError, match=r"net.num_views=3.*nvidia.load_dit"):
        read_world(ask)


@pytest.mark.parametrize(
    "words, message",
    [
        (["format=jit"], "convert.format=jit: must be one of openwfm, diffusers, release"),
        (["format=release"], "must be a file.safetensors"),
        (["out=a"], "must not be in=a"),
        (["max_frames=0"], "max_frames=0: must be at least 1"),
        (["size=[3]"], "convert.size=.*must be 2 numbers"),
        (["rope_scale=[1,2]"], "convert.rope_scale=.*must be 3 numbers"),
    ],
)
def test_bad_requests(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(compose("convert", ["kind=world", "in=a", "out=b", *words]).world)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has none of model.pt"):
        read_world(ConvertWorldConfig(source=str(tmp_path), out="x"))


def test_text_that_is_no_encoder(tmp_path: Path) -> None:
    source = published(tmp_path / "ours", world())
    ask = ConvertWorldConfig(source=str(source), out=str(tmp_path / "x"), text=str(tmp_path))
    with pytest.raises(ValueError, match="convert.text=.*must hold config.json and safetensors"):
        write_world(read_world(ask), tmp_path / "x", "openwfm")


def test_a_published_tokenizer_keeps_its_facts(tmp_path: Path) -> None:
    source = published(tmp_path / "ours", world())
    found = Found(VideoTokenizer(TOKENIZER), [], None, {"data": {"kinds": ["driving"]}})
    write_tokenizer(found, source / "tokenizer", "openwfm")
    ask = ConvertWorldConfig(source=str(source), out=str(tmp_path / "x"))
    write_world(read_world(ask), tmp_path / "x", "openwfm")
    config = read_json(tmp_path / "x" / "tokenizer" / "config.json")
    assert config["data"] == {"kinds": ["driving"]}
