"""The transformer against an independent one, its cache, and the release's names."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from openwfm.autoregressive import KeyValueCache, Transformer, TransformerConfig, YarnConfig, preset
from openwfm.autoregressive.positions import absolute_rows, frequencies, rotary_rows
from openwfm.interop.nvidia import export_transformer, load_transformer

TINY = TransformerConfig(
    width=40, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=16, hidden=24,
    vocabulary=50, grid=(3, 2, 4),
)  # fmt: skip
VIDEO2WORLD = replace(TINY, bov=True, context_width=12, absolute_position=True, embeddings=56)
YARN = YarnConfig(original=(2, 2, 4))
CONFIGS = {
    "base": TINY,
    "yarn": replace(TINY, yarn=YARN),
    "video2world": VIDEO2WORLD,
    "all": replace(VIDEO2WORLD, yarn=YARN),
}


def random_network(config: TransformerConfig, seed: int = 0) -> Transformer:
    network = Transformer(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.3 * noise if parameter.ndim == 1 else 0.25 * noise
    return network


def random_tokens(config: TransformerConfig, batch: int = 2, count: int | None = None):
    count = config.max_tokens if count is None else count
    tokens = torch.randint(config.vocabulary, (batch, count))
    if config.bov:
        tokens[:, 0] = config.vocabulary
    return tokens


def context_of(config: TransformerConfig, batch: int = 2):
    return None if config.context_width is None else torch.randn(batch, 5, config.context_width)


# --- an independent implementation, from the specification, on the release's own tensors ---------


def norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def place(config, n):
    """(t, h, w) of row n, or None for the begin of video."""
    n -= int(config.bov)
    if n < 0:
        return None
    rows, columns = config.grid[1:]
    return n // (rows * columns), n // columns % rows, n % columns


def angle_vector(config, n):
    size = config.head_dim
    space = size // 6 * 2
    if place(config, n) is None:
        return torch.zeros(size)
    half = []
    for axis, (at, dim) in enumerate(
        zip(place(config, n), (size - 2 * space, space, space), strict=True)
    ):
        for i in range(dim // 2):
            f = 500000.0 ** (-2 * i / dim)
            if config.yarn is not None:
                length = config.yarn.original[axis]
                low, high = 2 * math.pi * 1 / length, 2 * math.pi * 4 / length
                keep = min(max((f - low) / (high - low), 0.0), 1.0)
                f = f * ((1 - keep) / config.yarn.scale + keep)
            half.append(at * f)
    return torch.tensor(half + half)


def sines(config, n):
    width = config.width
    space = width // 6 * 2
    if place(config, n) is None:
        return torch.zeros(width)
    parts = []
    for at, dim in zip(place(config, n), (width - 2 * space, space, space), strict=True):
        omega = [10000.0 ** (-i / (dim / 2)) for i in range(dim // 2)]
        parts += [math.sin(at * o) for o in omega] + [math.cos(at * o) for o in omega]
    return torch.tensor(parts)


def turned(x, angles):
    first, second = x.chunk(2, -1)
    return x * angles.cos() + torch.cat((-second, first), -1) * angles.sin()


def reference(config, weights, tokens, context):
    w = {key.removeprefix("model."): value for key, value in weights.items()}
    heads, group, size = config.num_heads, config.num_heads // config.num_kv_heads, config.head_dim
    n = len(tokens)
    angles = torch.stack([angle_vector(config, i) for i in range(n)])
    mask = torch.full((n, n), -torch.inf).triu(1)
    h = w["tok_embeddings.weight"][tokens]
    for layer in range(config.num_layers):
        get = lambda name, at=f"layers.{layer}.": w[f"{at}{name}.weight"]  # noqa: E731
        if config.absolute_position:
            h = h + torch.stack([sines(config, i) for i in range(n)])
        for kind in ("attention", "cross_attention"):
            if kind == "cross_attention" and context is None:
                continue
            x = norm(h, get(f"{kind}_norm"))
            source = x if kind == "attention" else context
            q, k, v = (
                x @ get(f"{kind}.wq").T,
                source @ get(f"{kind}.wk").T,
                source @ get(f"{kind}.wv").T,
            )
            mixed = []
            for j in range(heads):
                one = norm(q[:, j * size : (j + 1) * size], get(f"{kind}.q_norm"))
                shared = slice(j // group * size, (j // group + 1) * size)
                key = norm(k[:, shared], get(f"{kind}.k_norm"))
                if kind == "attention":
                    one, key = turned(one, angles), turned(key, angles)
                scores = one @ key.T / math.sqrt(size)
                scores = scores + mask if kind == "attention" else scores
                mixed.append(scores.softmax(-1) @ v[:, shared])
            h = h + torch.cat(mixed, -1) @ get(f"{kind}.wo").T
        x = norm(h, get("ffn_norm"))
        gate = x @ get("feed_forward.w1").T
        h = h + (gate * gate.sigmoid() * (x @ get("feed_forward.w3").T)) @ get("feed_forward.w2").T
    return norm(h, w["norm.weight"]) @ w["output.weight"].T


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_an_independent_implementation(name):
    config = CONFIGS[name]
    network = random_network(config)
    tokens, context = random_tokens(config), context_of(config)
    with torch.no_grad():
        ours = network(tokens, context=context)
    for row in range(2):
        theirs = reference(
            config,
            export_transformer(network),
            tokens[row],
            None if context is None else context[row],
        )
        torch.testing.assert_close(ours[row], theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("chunks", [(1,) * 24, (7, 1, 1, 9, 6), (24,)])
def test_cached_decoding_is_the_full_forward(name, chunks):
    config = CONFIGS[name]
    network = random_network(config, seed=1)
    tokens, context = random_tokens(config, count=24), context_of(config)
    cache = KeyValueCache(config, batch=2)
    with torch.no_grad():
        whole = network(tokens, context=context)
        keys = None if context is None else network.context_keys(context)
        parts = [network(part, context=keys, cache=cache) for part in tokens.split(chunks, 1)]
    assert cache.length == 24
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)


def test_a_rewound_cache_is_as_if_nothing_had_been():
    config = CONFIGS["all"]
    network, context = random_network(config), context_of(config, 1)
    tokens = random_tokens(config, 1)
    cache = KeyValueCache(config)
    with torch.no_grad():
        network(tokens[:, :9], context=context, cache=cache)
        network(torch.randint(50, (1, 6)), context=context, cache=cache)
        cache.rewind(9)
        after = network(tokens[:, 9:20], context=context, cache=cache)
        whole = network(tokens[:, :20], context=context)
    torch.testing.assert_close(after, whole[:, 9:], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="rewind to 21"):
        cache.rewind(21)


def test_padding_tokens_of_text_are_null_sinks():
    """The release pads text with zeros to 512 tokens and attends to them."""
    config = CONFIGS["video2world"]
    network, tokens = random_network(config), random_tokens(CONFIGS["video2world"])
    text = torch.randn(2, 4, 12)
    padded = torch.nn.functional.pad(text, (0, 0, 0, 33))
    with torch.no_grad():
        keys = network.context_keys(text, null_tokens=33)
        torch.testing.assert_close(
            network(tokens, context=keys), network(tokens, context=padded), rtol=1e-4, atol=1e-5
        )


def test_the_future_does_not_leak():
    network = random_network(TINY)
    tokens = random_tokens(TINY, 1)
    other = tokens.clone()
    other[:, 10:] = (other[:, 10:] + 1) % TINY.vocabulary
    with torch.no_grad():
        assert torch.equal(network(tokens)[:, :10], network(other)[:, :10])
        last = network(tokens, last_only=True)
    torch.testing.assert_close(last, network(tokens)[:, -1:])


COUNTS = {
    "ar_4b": 4_014_088_192,
    "ar_5b_video2world": 4_584_845_312,
    "ar_12b": 11_560_975_360,
    "ar_13b_video2world": 13_323_125_760,
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes(name):
    with torch.device("meta"):
        network = Transformer(preset(name))
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]
    assert preset(name).max_tokens == 12_800 + ("video2world" in name)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_release_loads_strictly_both_ways(name):
    config = CONFIGS[name]
    network = random_network(config)
    theirs = export_transformer(network) | {"model.layers.0.attention._extra_state": torch.ones(1)}
    options = {"num_heads": 4, "grid": config.grid, "yarn": config.yarn}
    loaded = load_transformer(theirs, **options)
    embeddings = config.num_embeddings
    assert loaded.config == replace(config, embeddings=embeddings)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    broken = dict(theirs)
    del broken["model.layers.2.feed_forward.w3.weight"]
    broken["model.layers.1.stray.weight"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"(?s)missing layers.2.*unknown layers.1.stray"):
        load_transformer(broken, **options)
    misshapen = theirs | {"model.norm.weight": torch.ones(3)}
    with pytest.raises(ValueError, match=r"misshapen norm.weight"):
        load_transformer(misshapen, **options)
    with pytest.raises(ValueError, match="missing tok_embeddings"):
        load_transformer({}, **options)


def test_yarn_factors_of_the_release():
    """Temporal frequencies are halved; of the spatial ones the first stays (reference 6.6)."""
    yarn = YarnConfig()
    plain, stretched = frequencies(44, 5e5), frequencies(44, 5e5, yarn, axis=0)
    torch.testing.assert_close(stretched, plain / 2)
    factors = frequencies(42, 5e5, yarn, axis=1) / frequencies(42, 5e5)
    expected = torch.tensor([1.0, 0.9013, 0.6374, 0.5, 0.5])
    torch.testing.assert_close(factors[:5], expected, atol=1e-4, rtol=0)


def test_the_begin_of_video_is_nowhere():
    config = CONFIGS["video2world"]
    cos, sin = rotary_rows(config, 0, 3)
    assert torch.equal(cos[0], torch.ones(16)) and sin[0].abs().max() == 0
    assert absolute_rows(config, 0, 1).abs().max() == 0
    without, _ = rotary_rows(replace(config, bov=False, embeddings=None), 0, 2)
    assert torch.equal(cos[1:], without)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_kv_heads": 3}, "net.num_heads=4: must be a multiple"),
        ({"head_dim": 15}, "head_dim=15"),
        ({"embeddings": 49}, "net.embeddings=49: must be at least 50"),
        ({"embeddings": 50, "bov": True}, "net.embeddings=50: must be at least 51"),
        ({"tied": True, "embeddings": 60}, "net.tied=True"),
        ({"grid": (3, 4)}, "net.grid="),
        ({"width": 0}, "net.width=0"),
        ({"context_width": 0}, "net.context_width=0"),
    ],
)
def test_bad_configs(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
    with pytest.raises(ValueError, match="beta_slow"):
        YarnConfig(beta_slow=5.0)
    with pytest.raises(ValueError, match="nearest: ar_4b"):
        preset("ar_4")


def test_bad_inputs():
    network = random_network(TINY)
    with pytest.raises(ValueError, match="must be integers"):
        network(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="tokens: 25: must be at most 24"):
        network(torch.zeros(1, 25, dtype=torch.long))
    with pytest.raises(ValueError, match="takes none"):
        network(random_tokens(TINY), context=torch.zeros(2, 1, 12))
    video = random_network(CONFIGS["video2world"])
    with pytest.raises(ValueError, match="needs one"):
        video(random_tokens(VIDEO2WORLD))
    with pytest.raises(ValueError, match="width 11"):
        video(random_tokens(VIDEO2WORLD), context=torch.zeros(2, 1, 11))
    small = KeyValueCache(TINY, batch=1, capacity=4)
    with pytest.raises(ValueError, match="made for 1"):
        network(random_tokens(TINY, 2, 3), cache=small)
    with pytest.raises(ValueError, match=r"0 \+ 5 tokens"):
        network(random_tokens(TINY, 1, 5), cache=small)
