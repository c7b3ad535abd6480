"""What inference computes with fewer operations, against what training computes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.nn import winograd as module
from openwfm.nn.causal import FactorizedConv, FrameNorm, Past, SpatialConv, TemporalConv
from openwfm.nn.derived import infers
from openwfm.nn.winograd import doubled, doubled_filters, winograd, winograd_filters

side = st.integers(1, 5)


def draw(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def images(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


@settings(max_examples=40, deadline=None)
@given(
    n=side, h=side, w=side, c=side, d=side, elements=st.integers(1, 200), seed=st.integers(0, 99)
)
def test_minimal_filtering_is_convolution(
    n: int, h: int, w: int, c: int, d: int, elements: int, seed: int
) -> None:
    """Any shape, cut into blocks of any size, against torch's convolution in double precision."""
    weight, bias = draw(seed, d, c, 3, 3), draw(seed + 1, d)
    x, small = draw(seed + 2, n, 2 * h, 2 * w, c), draw(seed + 3, n, h, w, c)
    before, module.ELEMENTS = module.ELEMENTS, elements
    try:
        ours = winograd(x, *winograd_filters(weight), bias)
        twice = doubled(small, *doubled_filters(weight), bias)
    finally:
        module.ELEMENTS = before
    torch.testing.assert_close(images(ours), F.conv2d(images(x), weight, bias, padding=1))
    nearest = F.interpolate(images(small), scale_factor=2, mode="nearest")
    torch.testing.assert_close(images(twice), F.conv2d(nearest, weight, bias, padding=1))


def test_wide_sums_are_no_less_exact_than_direct_ones() -> None:
    """In single precision, at the width from which minimal filtering is used."""
    weight, x = draw(0, 256, 256, 3, 3), draw(1, 1, 8, 8, 256)
    wanted = F.conv2d(images(x), weight, padding=1)
    ours = winograd(x.float(), *winograd_filters(weight.float()), torch.zeros(256))
    assert float((images(ours) - wanted).abs().max() / wanted.abs().max()) < 2e-6


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "space": lambda: SpatialConv(4, 6),
    "strided space": lambda: SpatialConv(4, 6, stride=2),
    "time": lambda: TemporalConv(4, 6),
    "strided time": lambda: TemporalConv(4, 6, stride=2),
    "pair": lambda: FactorizedConv(4, 6),
    "image": lambda: FactorizedConv(4, 6, time=False),
    "norm": lambda: FrameNorm(4, 2),
}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minimal filtering at every width."""
    monkeypatch.setattr(module, "MIN_WIDTH", 1)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("size", [(2, 6, 4, 6), (1, 2, 3, 5), (3, 4, 2, 2)])
def test_layers_infer_what_they_train(
    build: Callable[[], nn.Module], size: tuple[int, ...]
) -> None:
    layer, x = build().double().eval(), draw(0, *size, 4)
    wanted = layer(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), wanted)
        if isinstance(layer, FrameNorm):
            kept = x.clone()
            torch.testing.assert_close(layer.activated(x), F.silu(wanted))
            assert torch.equal(x, kept)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("cuts", [[1], [2, 3], [1, 2, 3, 4, 5]])
def test_time_remembers_the_same_in_both_modes(stride: int, cuts: list[int]) -> None:
    """A stream may change between the two from chunk to chunk."""
    layer, x = TemporalConv(3, 5, stride).double().eval(), draw(0, 2, 6 * stride, 2, 3, 3)
    wanted, past, parts = layer(x), Past(), []
    for i, chunk in enumerate(x.tensor_split([cut * stride for cut in cuts], 1)):
        with torch.set_grad_enabled(i % 2 == 0):
            parts.append(layer(chunk, past))
    torch.testing.assert_close(torch.cat(parts, 1), wanted)


def test_a_residual_is_added_and_left_alone() -> None:
    pair, x, residual = FactorizedConv(4, 6).double().eval(), draw(0, 1, 5, 4, 4, 4), None
    residual = draw(1, 1, 5, 4, 4, 6)
    kept, wanted = residual.clone(), pair(x) + residual
    with torch.no_grad():
        torch.testing.assert_close(pair(x, None, residual), wanted)
    assert torch.equal(pair(x, None, residual), residual + pair(x))
    assert torch.equal(residual, kept)


def in_place(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.weight.mul_(2)


def by_optimizer(layer: nn.Module) -> None:
    with torch.enable_grad():
        layer(torch.ones(1, 2, 2, 2, 3)).sum().backward()
        torch.optim.SGD(layer.parameters(), lr=0.1).step()


def by_loading(layer: nn.Module) -> None:
    layer.load_state_dict({name: 2 * tensor for name, tensor in layer.state_dict().items()})


def by_assignment(layer: nn.Module) -> None:
    tensors = {name: 2 * tensor for name, tensor in layer.state_dict().items()}
    layer.load_state_dict(tensors, assign=True)


def by_rounding(layer: nn.Module) -> None:
    layer.to(torch.bfloat16)
    layer.to(torch.float32)


def by_data_and_eval(layer: nn.Module) -> None:
    layer.weight.data.mul_(2)
    layer.eval()


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    "change",
    [in_place, by_optimizer, by_loading, by_assignment, by_rounding, by_data_and_eval],
    ids=lambda change: change.__name__,
)
@pytest.mark.parametrize("build", [lambda: TemporalConv(3, 4), lambda: SpatialConv(3, 4)])
def test_nothing_derived_goes_stale(
    build: Callable[[], nn.Module], change: Callable[[nn.Module], None]
) -> None:
    layer, x = build().eval(), draw(0, 1, 2, 2, 2, 3).float()
    with torch.no_grad():
        before = layer(x)
        change(layer)
        after = layer(x)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, layer(x), rtol=1e-5, atol=1e-5)


def test_copies_and_pickles_derive_their_own() -> None:
    layer, x = TemporalConv(3, 4).eval(), draw(0, 1, 2, 2, 2, 3).float()
    with torch.no_grad():
        layer(x)
        twin, size = copy.deepcopy(layer), len(pickle.dumps(layer))
        assert size == len(pickle.dumps(copy.deepcopy(layer)))
        assert list(layer.state_dict()) == ["weight", "bias"]
        twin.weight.zero_()
        torch.testing.assert_close(twin(x), twin.bias.expand(1, 2, 2, 2, 4))
        assert float(layer(x).std()) > 0 and not torch.equal(layer(x), twin(x))


def test_parameters_of_inference_mode_are_never_remembered() -> None:
    """They have no version, so that a change would go unseen."""
    with torch.inference_mode():
        layer, x = TemporalConv(3, 4).eval(), torch.ones(1, 2, 2, 2, 3)
        before = layer(x)
        layer.weight.mul_(2)
        after = layer(x)
    assert not torch.equal(before, after)


def test_derived_in_inference_mode_serves_outside_it() -> None:
    layer, x = TemporalConv(3, 4).eval(), torch.ones(1, 2, 2, 2, 3)
    with torch.inference_mode():
        first = layer(x)
    with torch.no_grad():
        assert torch.equal(layer(x), first)


def test_training_keeps_to_the_plain_way() -> None:
    layer, x = TemporalConv(3, 4), torch.ones(1)
    assert not infers(layer, x)
    layer.eval()
    assert not infers(layer, x)
    with torch.no_grad():
        assert infers(layer, x)
        assert not infers(layer, x.bfloat16()) and not infers(layer, x.to("meta"))
        assert not infers(layer.train(), x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not infers(layer.eval(), x)
