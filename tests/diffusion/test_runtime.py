"""The prepared network against the plain one, which it must equal whatever it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from openwfm.diffusion import DiT, DiTConfig, fused
from openwfm.diffusion import runtime as module
from openwfm.diffusion.fused import project
from openwfm.diffusion.precondition import c_noise
from openwfm.diffusion.runtime import Runtime
from openwfm.nn.attention import BranchKeys
from openwfm.nn.packed import pack
from openwfm.nn.rope import rotate

TINY = DiTConfig(
    width=64,
    num_blocks=3,
    num_heads=2,
    adaln_rank=8,
    text_width=12,
    in_channels=4,
    out_channels=4,
    padding_mask=True,
    max_size=(8, 16, 16),
)
SIGMAS = (80.0, 3.0, 0.01)


def network(config: DiTConfig = TINY, seed: int = 0) -> DiT:
    torch.manual_seed(seed)
    net = DiT(config)
    for name, parameter in net.named_parameters():
        low, high = (0.5, 1.5) if name.endswith("norm.weight") else (-0.25, 0.25)
        torch.nn.init.uniform_(parameter, low, high)
    return net.eval()


def inputs(batch: int, size: tuple[int, int, int], config: DiTConfig = TINY) -> dict[str, Tensor]:
    f, y, x = size
    found = {"fps": 10 + 20 * torch.rand(batch)}
    if config.padding_mask:
        found["padding_mask"] = torch.randint(2, (batch, 1, 8 * y, 8 * x)).float()
    if config.condition_mask:
        found["condition_mask"] = torch.randint(2, (batch, 1, f, y, x)).float()
    if config.extra_channels:
        found["channels"] = torch.randn(batch, config.extra_channels, f, y, x)
    return found


def plain(
    net: DiT,
    latents: Tensor,
    sigma: float,
    texts: list[tuple[Tensor, int]],
    guidance: float,
    ports: dict[str, Tensor],
) -> Tensor:
    """Guidance as two calls of the network."""
    level = c_noise(torch.tensor([sigma]))
    with torch.no_grad():
        conditional, unconditional = (
            net(latents, level, text=text, null_tokens=zeros, **ports) for text, zeros in texts
        )
    return conditional + guidance * (conditional - unconditional)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 3), st.sampled_from([2, 4, 6]), st.sampled_from([2, 4])),
    lengths=st.tuples(st.integers(0, 4), st.none() | st.integers(0, 4)),
    guidance=st.sampled_from([0.0, 0.7, 7.0]),
    options=st.tuples(*[st.booleans()] * 4),
    seed=st.integers(0, 2**16),
)
def test_equals_the_plain_network(
    batch: int,
    size: tuple[int, int, int],
    lengths: tuple[int, int | None],
    guidance: float,
    options: tuple[bool, bool, bool, bool],
    seed: int,
) -> None:
    padding, condition, learnable, modulated = options
    config = replace(
        TINY,
        padding_mask=padding,
        condition_mask=condition,
        extra_channels=2 * condition,
        position_embedding="learnable" if learnable else "none",
    )
    net = network(config, seed)
    latents, ports = torch.randn(batch, 4, *size), inputs(batch, size, config)
    if modulated:
        ports["modulation"] = torch.randn(batch, 4 * 64)
    count, other = lengths
    text = torch.randn(batch, count, 12)
    negative = None if other is None else torch.randn(1, other, 12)
    plain_negative = torch.zeros(batch, 0, 12) if negative is None else negative.repeat(batch, 1, 1)
    texts = [(text, 9 - count), (plain_negative, 9 - (other or 0))]
    runtime = Runtime(net, sigmas=SIGMAS[:2], guidance=guidance)
    keys = runtime.text_keys(*texts[0], negative=(negative, texts[1][1]))
    for sigma in SIGMAS:
        wanted = plain(net, latents, sigma, texts, guidance, ports)
        found = runtime(latents, c_noise(torch.tensor([sigma])), text=keys, **ports)
        assert_close(found, wanted)


def prepared(net: DiT, **options: object) -> tuple[Runtime, list[BranchKeys], Tensor]:
    torch.manual_seed(1)
    runtime = Runtime(net, **options)  # type: ignore[arg-type]
    return runtime, runtime.text_keys(torch.randn(2, 3, 12), 5), torch.randn(2, 4, 2, 4, 4)


def test_weights_and_inputs_stay_as_they_are() -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    runtime, keys, latents = prepared(net, sigmas=SIGMAS, guidance=2.0)
    ports = inputs(2, (2, 4, 4))
    kept = {name: value.clone() for name, value in ports.items()} | {"x": latents.clone()}
    level = c_noise(torch.tensor([3.0]))
    first = runtime(latents, level, text=keys, **ports)
    assert torch.equal(first, runtime(latents, level, text=keys, **ports))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(torch.equal(kept[name], value) for name, value in {**ports, "x": latents}.items())


def test_interval_runs_one_branch_outside() -> None:
    net = network()
    runtime, keys, latents = prepared(net, guidance=3.0, interval=(0.1, 3.0))
    off, ports = Runtime(net), inputs(2, (2, 4, 4))
    on = Runtime(net, guidance=3.0)
    for sigma, wanted in ((80.0, off), (3.0, on), (1.0, on), (0.1, on), (0.099, off)):
        level = c_noise(torch.tensor([sigma]))
        found = runtime(latents, level, text=keys, **ports)
        assert torch.equal(found, wanted(latents, level, text=keys, **ports)), sigma


def test_another_grid_or_rate_gets_other_tables() -> None:
    net = network()
    runtime, keys, _ = prepared(net)
    level = c_noise(torch.tensor([1.0]))
    for size, fps in (((1, 2, 2), 24.0), ((2, 4, 2), 24.0), ((2, 4, 2), 12.0), ((2, 2, 4), 12.0)):
        ports = {**inputs(2, size), "fps": torch.full((2,), fps)}
        latents = torch.randn(2, 4, *size)
        fresh = Runtime(net)(latents, level, text=keys, **ports)
        assert torch.equal(runtime(latents, level, text=keys, **ports), fresh)


def test_tables_too_large_to_keep_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    runtime, keys, latents = prepared(net, guidance=1.0)
    ports, level = inputs(2, (2, 4, 4)), c_noise(torch.tensor([1.0]))
    wanted = runtime(latents, level, text=keys, **ports)
    monkeypatch.setattr(module, "FOLDED_BYTES", 0)
    other, _, _ = prepared(net, guidance=1.0)
    assert torch.equal(other(latents, level, text=keys, **ports), wanted)


@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 5, 8), (1, 300, 64)])
@pytest.mark.parametrize("packed", [False, True])
def test_projection_is_a_linear_layer(shape: tuple[int, ...], packed: bool) -> None:
    x, weight = torch.randn(shape), torch.randn(7, shape[-1])
    layer = pack(weight)[0] if packed else weight
    wanted = x.double() @ weight.double().t()
    assert torch.allclose(project(x, layer).double(), wanted, atol=1e-4)
    wanted = torch.nn.functional.gelu(wanted)
    assert torch.allclose(project(x, layer, gelu=True).double(), wanted, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 2])
def test_turned_is_norm_and_rotation(batch: int, dtype: torch.dtype) -> None:
    block = network().blocks[0]
    parts = torch.randn(2, 6, 3, 2, 32).to(dtype)
    angle = torch.rand(batch, 6, 16) * 6
    cos, sin = angle.cos().repeat(1, 1, 2), torch.cat((-angle.sin(), angle.sin()), dim=-1)
    tables = fused.Rotary.of(block, cos, sin)  # type: ignore[arg-type]
    q, k, v = parts.float().unbind(2)
    own: Any = block.self_attention
    wanted = torch.stack((rotate(own.q_norm(q), cos, sin), rotate(own.k_norm(k), cos, sin), v))
    found = fused.turned(parts, *tables)
    assert found.dtype == dtype and found.is_contiguous()
    near = 1e-5 if dtype == torch.float32 else 0.02
    assert torch.allclose(found.float(), wanted.transpose(2, 3), atol=near, rtol=near)


def test_changed_weights_are_packed_anew() -> None:
    """By an optimizer, a checkpoint or a move; and the copy goes when the network trains."""
    net = network()
    ports, level = inputs(2, (2, 4, 4)), c_noise(torch.tensor([1.0]))
    runtime, keys, latents = prepared(net)
    first = runtime(latents, level, text=keys, **ports)
    with torch.no_grad():
        net.blocks[1].mlp[2].weight.mul_(1.5)  # type: ignore[index, union-attr]
    second = Runtime(net)(latents, level, text=keys, **ports)
    assert not torch.allclose(first, second)
    net.load_state_dict(network().state_dict())
    assert torch.equal(Runtime(net)(latents, level, text=keys, **ports), first)
    assert "_derived" in net.blocks[0].__dict__
    assert "_derived" not in net.train().blocks[0].__dict__


def test_networks_too_large_to_copy_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    ports, level = inputs(2, (2, 4, 4)), c_noise(torch.tensor([1.0]))
    runtime, keys, latents = prepared(net, guidance=1.0)
    wanted = runtime(latents, level, text=keys, **ports)
    monkeypatch.setattr(module, "PACKED_BYTES", 0)
    plain_weights = Runtime(net, guidance=1.0)
    assert not plain_weights._weights[0].qkv.is_mkldnn
    assert_close(plain_weights(latents, level, text=keys, **ports), wanted)


def test_half_precision_weights_with_a_state_in_single() -> None:
    """As on a GPU: the state and the output stay fp32, and bf16 rounding is all that differs."""
    net = network()
    runtime, keys, latents = prepared(net, sigmas=SIGMAS, guidance=1.0)
    ports, level = inputs(2, (2, 4, 4)), c_noise(torch.tensor([3.0]))
    wanted = runtime(latents, level, text=keys, **ports)
    half, half_keys, _ = prepared(network().to(torch.bfloat16), sigmas=SIGMAS, guidance=1.0)
    found = half(latents, level, text=half_keys, **ports)
    assert found.dtype == torch.float32 and torch.isfinite(found).all()
    assert float((found - wanted).std() / wanted.std()) < 0.05
    text = torch.randn(2, 3, 12)
    assert half.net(latents, level, text=text, **ports).dtype == torch.bfloat16


def test_errors_are_those_of_the_network() -> None:
    runtime, keys, _ = prepared(network())
    level, ports = torch.zeros(1), inputs(2, (2, 4, 4))
    with pytest.raises(ValueError, match="5 rows: must divide by 2"):
        runtime(torch.zeros(2, 4, 2, 5, 4), level, text=keys, **ports)
    with pytest.raises(ValueError, match="width 13.*text_width=12"):
        runtime.text_keys(torch.ones(1, 3, 13), 0)


def test_checkpointed_blocks_keep_less_and_have_equal_gradients() -> None:
    net = network(replace(TINY, num_blocks=8)).train()
    latents, ports = torch.randn(2, 4, 2, 8, 8), inputs(2, (2, 8, 8))
    gradients, kept = [], []
    for net.checkpoint_blocks in (False, True):
        sizes: dict[int, int] = {}
        net.zero_grad()

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = net(latents, torch.zeros(2), text=torch.ones(2, 3, 12), **ports)
        kept.append(sum(sizes.values()))
        out.square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    assert kept[1] < kept[0] / 2
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_compiled_blocks_give_the_same() -> None:
    net = network()
    ports, level = inputs(2, (2, 4, 4)), c_noise(torch.tensor([1.0]))
    runtime, keys, latents = prepared(net, guidance=1.0)
    compiled, _, _ = prepared(net, guidance=1.0, compile_blocks=True)
    wanted = runtime(latents, level, text=keys, **ports)
    assert_close(compiled(latents, level, text=keys, **ports), wanted)
