"""Files and key names of the original release: which is read, what is ignored, what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.dit import DiT
from openwfm.diffusion.presets import PRESETS
from openwfm.interop.dit import read_config
from openwfm.interop.dit_names import network_tensors, release_names
from openwfm.interop.dit_release import read_dit_release
from openwfm.interop.nvidia import export_dit, load_dit, split_action

TINY = DiTConfig(
    width=64, num_blocks=2, num_heads=2, adaln_rank=8, text_width=12, max_size=(8, 32, 32)
)
VIEWS = replace(
    TINY, position_embedding="sincos", num_views=6, view_channels=6, max_size=(128, 240, 240)
)
DECODER = replace(
    TINY,
    condition_mask=False,
    position_embedding="none",
    rope_scale=(1.0, 1.5, 1.5),
    codebook=40,
    code_channels=5,
    max_size=(128, 240, 240),
)


def random_net(config: DiTConfig) -> DiT:
    torch.manual_seed(0)
    net = DiT(config).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def equal(a: DiT, b: DiT) -> bool:
    own = a.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in b.state_dict().items())


@pytest.mark.parametrize("config", [TINY, VIEWS, DECODER], ids=["single", "views", "decoder"])
@pytest.mark.parametrize("condition", [False, True])
def test_round_trip_reads_everything_from_keys_and_shapes(
    config: DiTConfig, condition: bool
) -> None:
    net = random_net(replace(config, condition_mask=condition))
    back = load_dit(export_dit(net))
    assert back.config == net.config and equal(net, back) and not back.training


def test_overrides_say_what_a_checkpoint_cannot() -> None:
    config = replace(
        TINY,
        extra_channels=3,
        padding_mask=False,
        rope_scale=(1.0, 2.0, 1.0),
        rope_dtype="bfloat16",
        base_fps=30.0,
        position_embedding="none",
        max_size=(4, 8, 8),
    )
    back = load_dit(
        export_dit(random_net(config)),
        extra_channels=3,
        padding_mask=False,
        rope_scale=(1.0, 2.0, 1.0),
        rope_dtype="bfloat16",
        base_fps=30.0,
        max_size=(4, 8, 8),
    )
    assert back.config == config
    waves = load_dit(
        export_dit(random_net(replace(TINY, position_embedding="none"))),
        position_embedding="sincos",
    )
    assert waves.config.position_embedding == "sincos"


def test_names_of_the_variants_are_the_reference_s() -> None:
    views = release_names(VIEWS)
    assert views["views.embedding.weight"] == ("view_embeddings.weight",)
    assert views["views.repeat.bias"] == ("repeat_frame_embedding.bias",)
    assert not any("extra_pos_embedder" in key for keys in views.values() for key in keys)
    assert release_names(DECODER)["codes.embedding.weight"] == ("token_embedder.weight",)


def test_a_patch_embedding_stored_as_a_convolution() -> None:
    """Conv3d(D, C, 1, 2, 2) flattens to the linear layer: channel, frame, row, column."""
    net = random_net(TINY)
    released = export_dit(net)
    linear = released.pop("net.x_embedder.proj.1.weight")
    convolution = linear.view(64, 18, 1, 2, 2)
    released["net.x_embedder.proj.weight"] = convolution
    assert equal(load_dit(released), net)
    x = torch.randn(1, 18, 2, 4, 6)
    wanted = torch.nn.functional.conv3d(x, convolution, stride=(1, 2, 2))
    with torch.no_grad():
        found = net._patchify(x)
    assert torch.allclose(found.transpose(1, 2).view_as(wanted), wanted, atol=1e-5)


def action_keys(width: int) -> dict[str, Tensor]:
    shapes = {}
    for kind, out in (("D", width), ("3D", 3 * width)):
        name = f"net.action_embedder_B_{kind}"
        shapes |= {f"{name}.fc1.weight": (4 * width, 7), f"{name}.fc1.bias": (4 * width,)}
        shapes |= {f"{name}.fc2.weight": (out, 4 * width), f"{name}.fc2.bias": (out,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_action_embedders_are_taken_off() -> None:
    net, action = random_net(TINY), action_keys(64)
    released = export_dit(net) | action
    with pytest.raises(ValueError, match=r"8 keys of action embedders.*split_action"):
        load_dit(released)
    rest, found = split_action(released)
    assert equal(load_dit(rest), net)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    assert shapes == {
        "embedding.0.weight": (256, 7),
        "embedding.0.bias": (256,),
        "embedding.2.weight": (64, 256),
        "embedding.2.bias": (64,),
        "modulation.0.weight": (256, 7),
        "modulation.0.bias": (256,),
        "modulation.2.weight": (192, 256),
        "modulation.2.bias": (192,),
    }
    assert found["modulation.2.bias"] is action["net.action_embedder_B_3D.fc2.bias"]


@pytest.mark.parametrize(
    "have, add, message",
    [
        (VIEWS, ("net.extra_pos_embedder.pos_emb_t", (8, 64)), "missing extra_pos_embedder"),
        (TINY, ("net.augment_sigma_embedder.1.linear_1.weight", (64, 64)), "unknown augment_sigma"),
        (TINY, ("net.traj_embeddings.weight", (8, 192)), "unknown traj_embeddings.weight"),
        (TINY, ("net.token_embedder.weight", (40, 5)), "5 of codes.*must be 0 or 1"),
        (TINY, ("net.x_embedder.proj.1.weight", (64, 73)), "must be 0 or 1"),
        (TINY, ("net.blocks.block5.blocks.2.block.layer1.weight", (256, 64)), "missing blocks"),
        (TINY, ("net.affline_norm.weight", (63,)), "misshapen level.norm.weight"),
    ],
)
def test_another_variant_s_keys(
    have: DiTConfig, add: tuple[str, tuple[int, ...]], message: str
) -> None:
    released = export_dit(random_net(have))
    released[add[0]] = torch.zeros(add[1])
    with pytest.raises(ValueError, match=message):
        load_dit(released)


def training_file(path: Path, net: DiT, **extra: object) -> Path:
    """As training leaves it: other state, byte streams, buffers and the uncertainty beside it."""
    state: dict[str, object] = {
        **export_dit(net),
        "net.pos_embedder.seq": torch.arange(128),
        "net.blocks.block0.blocks.0.block.attn.attn_op._extra_state": io.BytesIO(b"fp8"),
        "logvar.0.freqs": torch.ones(128),
        "logvar.0.phases": torch.ones(128),
        "logvar.1.weight": torch.ones(1, 128),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {**state, **extra}, "iteration": 7}, path)
    return path


def test_model_pt(tmp_path: Path) -> None:
    net = random_net(TINY)
    training_file(tmp_path / "model.pt", net)
    for source in (tmp_path, tmp_path / "model.pt"):
        tensors, lines = read_dit_release(source)
        assert equal(load_dit(tensors), net)
        assert tensors["logvar.1.weight"].shape == (1, 128)
        assert "model.pt: checkpoint" in lines[0]
    torch.save(export_dit(net), tmp_path / "flat.pt")
    assert equal(load_dit(read_dit_release(tmp_path / "flat.pt")[0]), net)
    save_file(export_dit(net), tmp_path / "flat.safetensors")
    assert equal(load_dit(read_dit_release(tmp_path / "flat.safetensors")[0]), net)


def test_moving_averages_in_a_file_of_their_own(tmp_path: Path) -> None:
    plain, average = random_net(TINY), random_net(TINY)
    with torch.no_grad():
        average.patch_in.weight.add_(1)
    training_file(tmp_path / "iter_000000100_reg_model.pt", average)  # an older one
    training_file(tmp_path / "iter_000000200_reg_model.pt", plain)
    training_file(tmp_path / "iter_000000200_ema_model.pt", average)
    training_file(tmp_path / "iter_000000200_ema_model_RANK1.pt", plain)
    for choice, wanted in ((None, average), (True, average), (False, plain)):
        tensors, lines = read_dit_release(tmp_path, average=choice)
        assert equal(load_dit(tensors), wanted)
        assert ("moving average" in lines[0]) == (wanted is average)
    (tmp_path / "iter_000000200_ema_model.pt").unlink()
    with pytest.raises(ValueError, match=r"has none of model.pt, \*_ema_model.pt"):
        read_dit_release(tmp_path, average=True)


def test_moving_averages_under_dashed_names(tmp_path: Path) -> None:
    plain, average = random_net(TINY), random_net(TINY)
    with torch.no_grad():
        average.patch_in.weight.add_(1)
    dashed = {
        f"ema.net-{key.removeprefix('net.').replace('.', '-')}": value
        for key, value in export_dit(average).items()
    }
    training_file(tmp_path / "model.pt", plain, **dashed)
    for choice, wanted in ((None, average), (True, average), (False, plain)):
        tensors, _ = read_dit_release(tmp_path, average=choice)
        assert equal(load_dit(tensors), wanted)
        assert "logvar.0.freqs" in tensors


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_dit_release(tmp_path / "model.pt")
    training_file(tmp_path / "model.pt", random_net(TINY))
    with pytest.raises(ValueError, match="average=true: .*holds no moving average"):
        read_dit_release(tmp_path, average=True)


@pytest.mark.parametrize("name", sorted(name for name in PRESETS if "b_" in name))
def test_published_sizes_are_told_by_their_keys(name: str) -> None:
    """On the meta device: the shapes of the reference's table give the preset back."""
    config = PRESETS[name]
    with torch.device("meta"):
        released = export_dit(DiT(config))
    assert read_config(network_tensors(released)) == config
    d, shapes = config.width, {key: tuple(value.shape) for key, value in released.items()}
    block = f"net.blocks.block{config.num_blocks - 1}.blocks"
    table = {
        "net.x_embedder.proj.1.weight": (d, 4 * config.input_channels),
        "net.t_embedder.1.linear_2.weight": (3 * d, d),
        f"{block}.2.adaLN_modulation.2.weight": (3 * d, 256),
        f"{block}.1.block.attn.to_k.0.weight": (d, 1024),
        f"{block}.0.block.attn.to_k.1.weight": (128,),
        f"{block}.2.block.layer1.weight": (4 * d, d),
        "net.final_layer.adaLN_modulation.2.weight": (2 * d, 256),
        "net.final_layer.linear.weight": (64, d),
    }
    if config.position_embedding == "learnable":
        table |= {
            f"net.extra_pos_embedder.pos_emb_{a}": (n, d)
            for a, n in zip("thw", (128, 120, 120), strict=True)
        }
    if config.num_views > 1:
        table["net.view_embeddings.weight"] = (6, 6)
        table["net.repeat_frame_embedding.weight"] = (6, 1)
        table["net.repeat_frame_embedding.bias"] = (6,)
    if config.codebook:
        table["net.token_embedder.weight"] = (64000, 32)
    assert {key: shapes.get(key) for key in table} == table
    others = len(shapes) - 20 * config.num_blocks - 7
    assert others == {"learnable": 3, "sincos": 3, "none": 1}[config.position_embedding]
