"""Fast decoders against the module: every position, batch, chunk and variant of the network."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from openwfm.autoregressive import KeyValueCache, Transformer, TransformerConfig, YarnConfig
from openwfm.autoregressive.native import library as native
from openwfm.autoregressive.native.decoder import NativeDecoder
from openwfm.autoregressive.runtime import (
    MOST_TOKENS,
    DecodingConfig,
    TorchDecoder,
    decoder_for,
)

TINY = TransformerConfig(
    width=40, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=18, hidden=27,
    vocabulary=51, grid=(3, 2, 4),
)  # fmt: skip
VIDEO2WORLD = replace(TINY, bov=True, context_width=12, absolute_position=True, embeddings=56)
CONFIGS = {
    "base": TINY,
    "tied": replace(TINY, tied=True, num_kv_heads=4),
    "yarn": replace(TINY, yarn=YarnConfig(original=(2, 2, 4)), num_kv_heads=1),
    "video2world": VIDEO2WORLD,
    "even": replace(TINY, width=64, head_dim=32, hidden=96, vocabulary=300),
}
DECODERS = ("torch", "native")


def made(kind: str, network: Transformer, precision="fp32"):
    if kind == "torch":
        return TorchDecoder(network, precision)
    try:
        native.build(native.cache_folder())
    except FileNotFoundError:
        pytest.skip("no C++ compiler")
    found = native.library()
    assert found is not None
    return NativeDecoder(network, precision, found)


def random_network(config: TransformerConfig, seed: int = 0) -> Transformer:
    network = Transformer(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.3 * noise if parameter.ndim == 1 else 0.25 * noise
    return network.requires_grad_(False)


def random_tokens(config: TransformerConfig, batch: int, count: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(config.vocabulary, (batch, count), generator=generator)
    if config.bov:
        tokens[:, 0] = config.vocabulary
    return tokens


def keys_of(network: Transformer, batch: int, null_tokens: int = 0):
    width = network.config.context_width
    if width is None:
        return None
    generator = torch.Generator().manual_seed(9)
    context = torch.randn(batch, 5, width, generator=generator)
    return network.context_keys(context, null_tokens)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("chunks", [(1,) * 24, (7, 1, 1, 9, 6), (20, 3, 1)])
@torch.inference_mode()
def test_every_position_equals_the_full_forward(name, kind, chunks):
    config = CONFIGS[name]
    network = random_network(config)
    for batch in (1, 3):
        tokens, keys = random_tokens(config, batch, 24), keys_of(network, batch, null_tokens=7)
        decoder, cache = made(kind, network), KeyValueCache(config, batch=batch)
        found = [
            decoder.hidden(part, context=keys, cache=cache) for part in tokens.split(chunks, 1)
        ]
        hidden = torch.cat(found, 1)
        torch.testing.assert_close(
            hidden, network.hidden(tokens, context=keys), rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(
            decoder.logits(hidden), network(tokens, context=keys), rtol=1e-5, atol=2e-5
        )
        torch.testing.assert_close(
            decoder.logits(hidden, last_only=True), decoder.logits(hidden)[:, -1:]
        )
        assert cache.length == 24


@pytest.mark.parametrize("seed", range(30))
def test_random_shapes(seed):
    """Widths that fill no vector, groups of any size, chunks and batches of any length."""
    draw = random.Random(seed)
    kv_heads = draw.randint(1, 3)
    config = TransformerConfig(
        width=2 * draw.randint(3, 40),
        num_layers=draw.randint(1, 2),
        num_heads=kv_heads * draw.randint(1, 3),
        num_kv_heads=kv_heads,
        head_dim=2 * draw.randint(8, 20),
        hidden=draw.randint(1, 70),
        vocabulary=draw.randint(2, 300),
        grid=(3, draw.randint(1, 4), draw.randint(1, 4)),
        bov=draw.random() < 0.5,
        context_width=draw.choice((None, 12)),
        absolute_position=seed % 5 == 0,
    )
    if config.absolute_position:
        config = replace(config, width=12 * draw.randint(1, 6))
    network = random_network(config, seed)
    batch = draw.randint(1, 4)
    tokens = random_tokens(config, batch, config.max_tokens)
    keys = keys_of(network, draw.choice((1, batch)), draw.randint(0, 2))
    whole = network.hidden(tokens, context=keys)
    for kind in DECODERS:
        decoder, cache = made(kind, network), KeyValueCache(config, batch=batch)
        while cache.length < config.max_tokens:
            start = cache.length
            step = tokens[:, start : start + draw.randint(1, 5)]
            found = decoder.hidden(step, context=keys, cache=cache)
            expected = whole[:, start : cache.length]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", DECODERS)
@torch.inference_mode()
def test_prompts_and_the_module_share_the_cache(kind):
    """Module, decoder and module again on one cache; a rewound cache forgets."""
    config = replace(VIDEO2WORLD, grid=(3, 6, 6))
    network = random_network(config)
    tokens, keys = random_tokens(config, 2, 109), keys_of(network, 2)
    decoder, cache = made(kind, network), KeyValueCache(config, batch=2)
    assert MOST_TOKENS < 2 * 90
    parts = [
        decoder.hidden(tokens[:, :90], context=keys, cache=cache),
        decoder.hidden(tokens[:, 90:95], context=keys, cache=cache),
    ]
    decoder.hidden(tokens[:, :3], context=keys, cache=cache)
    cache.rewind(95)
    parts += [
        network.hidden(tokens[:, 95:100], context=keys, cache=cache),
        decoder.hidden(tokens[:, 100:], context=keys, cache=cache),
    ]
    torch.testing.assert_close(
        torch.cat(parts, 1), network.hidden(tokens, context=keys), rtol=1e-5, atol=2e-5
    )


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@torch.no_grad()
def test_changed_weights_are_seen(kind, precision):
    network = random_network(TINY)
    tokens = random_tokens(TINY, 2, 5)

    def logits():
        cache = KeyValueCache(TINY, batch=2)
        decoder = made(kind, network, precision)
        return decoder.logits(decoder.hidden(tokens, cache=cache))

    before = logits()
    torch.testing.assert_close(logits(), before)
    network.layers[1].mlp.down.weight.mul_(3)
    network.unembed.weight.add_(0.1)
    after = logits()
    assert (after - before).abs().max() > 0.05
    if precision == "fp32":
        torch.testing.assert_close(after, network(tokens), rtol=1e-5, atol=2e-5)
    assert not [key for key in network.state_dict() if "derived" in key]


@torch.inference_mode()
def test_native_results_do_not_depend_on_threads():
    network = random_network(CONFIGS["video2world"])
    tokens, keys = random_tokens(network.config, 3, 8), keys_of(network, 3)
    decoder, found, before = made("native", network), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            cache = KeyValueCache(network.config, batch=3)
            hidden = decoder.hidden(tokens, context=keys, cache=cache)
            found.append((hidden, decoder.logits(hidden), cache.keys[:, :, :, :8].clone()))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_wrong_input_is_the_modules_error():
    network = random_network(CONFIGS["video2world"])
    cache = KeyValueCache(network.config, batch=2, capacity=4)
    for kind in DECODERS:
        decoder = made(kind, network)
        with pytest.raises(ValueError, match="needs one"):
            decoder.hidden(random_tokens(network.config, 2, 3), cache=cache)
        with pytest.raises(ValueError, match=r"0 \+ 5 tokens: must be at most 4"):
            decoder.hidden(
                random_tokens(network.config, 2, 5), context=keys_of(network, 2), cache=cache
            )
        with pytest.raises((IndexError, ValueError)):
            decoder.hidden(torch.tensor([[99], [0]]), context=keys_of(network, 2), cache=cache)
    with pytest.raises(ValueError, match="context: 3 sequences: must be 2"):
        decoder.hidden(
            random_tokens(network.config, 2, 1), context=keys_of(network, 3), cache=cache
        )
    assert cache.length == 0


def test_what_decodes_where(monkeypatch):
    network = random_network(TINY)
    assert isinstance(decoder_for(network), TorchDecoder)
    half = random_network(TINY).bfloat16()
    assert decoder_for(half) is half
    with pytest.raises(ValueError, match=r"decoding.precision=int8: needs a network in fp32"):
        decoder_for(half, DecodingConfig(precision="int8"))
    with pytest.raises(
        ValueError, match="decoding.precision=int4: must be one of fp32, bf16, int8"
    ):
        DecodingConfig(precision="int4")
    with pytest.raises(ValueError, match="decoding.keep=0"):
        DecodingConfig(keep=0)
    # Without a compiler torch decodes, and says so once.
    monkeypatch.setenv("CXX", "/nowhere/c++")
    native.library.cache_clear()
    with pytest.warns(UserWarning, match="native decoding is not available"):
        assert isinstance(decoder_for(network, DecodingConfig(native=True)), TorchDecoder)
    assert isinstance(decoder_for(network, DecodingConfig(native=True)), TorchDecoder)
    monkeypatch.undo()
    native.library.cache_clear()


def test_a_library_is_built_once_and_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    made("native", random_network(TINY))
    first = native.build(tmp_path)
    stamp = first.stat().st_mtime_ns
    assert native.build(tmp_path) == first and first.stat().st_mtime_ns == stamp
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "--no-such-flag"))
    with pytest.raises(subprocess.CalledProcessError):
        native.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_importing_the_package_builds_nothing(tmp_path):
    code = (
        "import torch\n"
        "from openwfm.autoregressive import Transformer, TransformerConfig\n"
        "from openwfm.autoregressive.generate import generate_tokens\n"
        "from openwfm.autoregressive.sampling import SamplerConfig\n"
        "net = Transformer(TransformerConfig(width=16, num_layers=1, num_heads=1, num_kv_heads=1,"
        " head_dim=16, hidden=16, vocabulary=5, grid=(2, 2, 2)))\n"
        "generate_tokens(net, torch.zeros(1, 2, dtype=torch.long), 2, SamplerConfig())\n"
    )
    environment = {**os.environ, "OPENWFM_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not (tmp_path / "cache").exists()
