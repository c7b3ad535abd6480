"""Packed matrices against arithmetic in double precision."""

from __future__ import annotations

import pytest
import torch

from openwfm.autoregressive import KeyValueCache, Transformer, TransformerConfig
from openwfm.autoregressive.native.decoder import NativeDecoder
from openwfm.autoregressive.native.library import library
from openwfm.autoregressive.quantized import by_panels, pack, panels, product, unpack
from openwfm.autoregressive.runtime import TorchDecoder

NET = TransformerConfig(
    width=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, hidden=128,
    vocabulary=192, grid=(4, 2, 3),
)  # fmt: skip


def matrix(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(rows, 1, generator=generator) * 10
    return torch.randn(rows, columns, generator=generator) * size


@pytest.mark.parametrize("rows, columns", [(1, 1), (7, 5), (64, 128), (129, 64)])
def test_int8_is_off_by_half_a_step_at_most(rows, columns):
    weight = matrix(rows, columns)
    data, scale = pack(weight, "int8")
    assert data.dtype == torch.int8 and int(data.abs().max()) <= 127
    assert torch.equal(scale.bfloat16().float(), scale)
    largest = weight.abs().amax(1)
    assert bool((scale * 127 >= largest).all()) and bool((scale * 127 <= largest * 1.01).all())
    assert bool(((unpack(data, scale) - weight).abs() <= scale[:, None] * 0.5001).all())


def test_rows_of_zeros_stay_zero():
    data, scale = pack(torch.zeros(3, 8), "int8")
    assert torch.equal(unpack(data, scale), torch.zeros(3, 8))
    assert bool(scale.isfinite().all())


def test_packed_once_is_packed_twice():
    """What was packed is representable: packing it again changes nothing."""
    for precision in ("fp32", "bf16", "int8"):
        once = unpack(*pack(matrix(30, 40), precision))
        torch.testing.assert_close(unpack(*pack(once, precision)), once, rtol=1e-2, atol=1e-6)
    assert torch.equal(unpack(*pack(matrix(3, 4), "fp32")), matrix(3, 4))


@pytest.mark.parametrize("rows", [1, 100, 256, 257, 700])
@pytest.mark.parametrize("tokens", [1, 5, 8])
def test_panels_are_the_same_product(rows, tokens):
    weight, x = matrix(rows, 33), torch.randn(tokens, 33)
    expected = (x.double() @ weight.double().T).float()
    torch.testing.assert_close(by_panels(x, panels(weight), rows), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("rows, columns", [(7, 5), (64, 128), (192, 64), (33, 64)])
def test_products(precision, rows, columns):
    packed, x = pack(matrix(rows, columns), precision), torch.randn(3, columns)
    expected = (x.double() @ unpack(*packed).double().T).float()
    found = product(x, *packed)
    assert found.dtype == torch.float32
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@torch.inference_mode()
def test_decoders_are_the_network_of_the_packed_weights(precision):
    """A copy of the module with unpacked matrices is what both decoders compute: the compiled one
    to rounding, torch's to that of bf16 activations."""
    torch.manual_seed(0)
    network, copy = Transformer(NET).eval(), Transformer(NET).eval()
    for parameter in network.parameters():
        parameter.data = (1 + 0.2 * torch.randn_like(parameter)) * (
            1 if parameter.ndim == 1 else parameter
        )
    copy.load_state_dict(network.state_dict())
    for layer in copy.layers:
        for linear in (
            layer.attention.qkv, layer.attention.out, layer.mlp.gate_up, layer.mlp.down,
        ):  # fmt: skip
            linear.weight.data = unpack(*pack(linear.weight, precision))
    copy.unembed.weight.data = unpack(*pack(copy.unembed.weight, precision))
    tokens = torch.randint(192, (2, 12))
    expected = copy(tokens)
    decoders = {"torch": TorchDecoder(network, precision)}
    if library() is not None:
        decoders["native"] = NativeDecoder(network, precision, library())
    for name, decoder in decoders.items():
        cache = KeyValueCache(NET, batch=2)
        hidden = [decoder.hidden(part, cache=cache) for part in tokens.split((1, 3, 1, 7), 1)]
        found = decoder.logits(torch.cat(hidden, 1))
        if name == "native" or precision == "fp32":
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        else:
            assert (found - expected).norm() < 0.03 * expected.norm()
