"""Sampling, and speculation that changes nothing but the number of passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import scipy.stats
import torch

from openwfm.autoregressive import KeyValueCache, Transformer, TransformerConfig
from openwfm.autoregressive.generate import (
    DraftLength,
    PreviousFrame,
    Statistics,
    generate_tokens,
    speculate_tokens,
    stream_tokens,
)
from openwfm.autoregressive.model import AutoregressiveWorldModel, TextConfig
from openwfm.autoregressive.objective import NextTokenConfig
from openwfm.autoregressive.runtime import DecodingConfig
from openwfm.autoregressive.sampling import SamplerConfig, accept_drafts, draw, probabilities
from openwfm.autoregressive.windows import plan_windows

NET = TransformerConfig(
    width=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, hidden=40,
    vocabulary=12, grid=(5, 2, 3),
)  # fmt: skip
GREEDY = SamplerConfig(temperature=0.0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    net = Transformer(NET).eval()
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.data *= 6
    return net


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_probabilities():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    full = probabilities(logits, SamplerConfig(top_p=None))
    torch.testing.assert_close(full, logits.softmax(-1))
    hot = probabilities(logits, SamplerConfig(top_p=None, temperature=2.0))
    torch.testing.assert_close(hot, (logits / 2).softmax(-1))
    two = probabilities(logits, SamplerConfig(top_p=None, top_k=2))
    assert two[0, 2:].sum() == 0
    torch.testing.assert_close(two[0, 0] / two[0, 1], torch.tensor(1.0).exp())
    # 0.644, 0.237, 0.087, 0.032: 0.8 needs the first two, 0.6 only the first.
    assert (probabilities(logits, SamplerConfig(top_p=0.8))[0] > 0).tolist() == [True] * 2 + [
        False
    ] * 2
    assert probabilities(logits, SamplerConfig(top_p=0.6))[0].tolist() == [1, 0, 0, 0]
    assert probabilities(logits, SamplerConfig(top_p=1e-6))[0].tolist() == [1, 0, 0, 0]
    assert probabilities(logits, GREEDY)[0].tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(
        probabilities(logits, SamplerConfig(top_p=0.9)).sum(-1), torch.ones(1)
    )


def test_draws_follow_their_probabilities():
    p = torch.tensor([0.5, 0.3, 0.2, 0.0])
    counts = torch.bincount(draw(p.expand(20_000, 4), seeded(0)), minlength=4)
    assert counts[3] == 0
    assert (
        scipy.stats.chisquare(counts[:3], 20_000 * p[:3].double() / p.double().sum()).pvalue > 0.01
    )


@pytest.mark.parametrize("drawn", [False, True])
def test_rejection_keeps_the_distribution(drawn):
    """First token after acceptance or rejection of one draft, against the model's own."""
    p = torch.tensor([[0.1, 0.6, 0.3], [1 / 3, 1 / 3, 1 / 3]])
    q = torch.tensor([[0.5, 0.25, 0.25]])
    generator, first = seeded(1), []
    for _ in range(6000):
        drafts = draw(q, generator) if drawn else torch.tensor([0])
        accepted, token = accept_drafts(p, drafts, q if drawn else None, generator)
        first.append(int(drafts[0]) if accepted else int(token))
    counts = torch.bincount(torch.tensor(first), minlength=3)
    assert scipy.stats.chisquare(counts, 6000 * p[0].double() / p[0].double().sum()).pvalue > 0.01


def test_greedy_speculation_is_identical_on_a_hundred_prompts(network):
    drafter = PreviousFrame(NET.frame_tokens)
    for seed in range(100):
        prompt = torch.randint(12, (1, 6 + seed % 5), generator=seeded(seed))
        count = 18 - seed % 3
        plain = generate_tokens(network, prompt, count, GREEDY)
        found = Statistics()
        fast = speculate_tokens(
            network, prompt, count, GREEDY, drafter, num_drafts=1 + seed % 7, statistics=found
        )
        assert torch.equal(plain, fast)
        assert found.passes + sum(found.accepted) == count - 1


def test_sampled_speculation_is_equal_in_distribution(network):
    """Joint counts of two tokens late in the sequence, over many seeds."""
    sampler = SamplerConfig(temperature=1.5, top_p=None)
    prompt = torch.randint(12, (1, 6), generator=seeded(5))
    drafter = PreviousFrame(NET.frame_tokens)
    generator, pairs = seeded(6), []
    for _ in range(1500):
        tokens = speculate_tokens(
            network, prompt, 4, sampler, drafter, num_drafts=3, generator=generator
        )
        pairs.append(int(tokens[0, 2] // 3 * 4 + tokens[0, 3] // 3))
    plain = generate_tokens(network, prompt.expand(6000, -1), 4, sampler, generator=seeded(7))
    expected = torch.bincount(plain[:, 2] // 3 * 4 + plain[:, 3] // 3, minlength=16)
    counts = torch.bincount(torch.tensor(pairs), minlength=16)
    table = torch.stack((counts, expected))[:, (counts + expected) >= 20]
    assert scipy.stats.chi2_contingency(table.numpy()).pvalue > 0.01


def test_draft_lengths_follow_what_was_accepted():
    length = DraftLength(most=16, cost=0.1)
    for _ in range(30):
        length.update(8, 8)
    assert length.next() == 16
    for _ in range(30):
        length.update(8, 0)
    assert length.next() == 0
    passes = 0
    while length.next() == 0:  # it tries again
        length.update(0, 0)
        passes += 1
    assert 2 <= passes <= 200
    free = DraftLength(cost=0.0, chance=0.3)
    assert free.next() == 16
    for chance in (0.2, 0.5, 0.8, 0.95):  # the best length, by simulation of every length
        length = DraftLength(most=12, cost=0.12, chance=chance)
        rates = []
        for k in range(13):
            held = (torch.rand(40_000, k, generator=seeded(0)) < chance).long().cumprod(1).sum(1)
            rates.append(float((held + 1).float().mean()) / (1 + 0.12 * k))
        assert rates[length.next()] > 0.99 * max(rates)


@pytest.mark.parametrize("native", [False, True])
def test_greedy_tokens_are_the_modules(network, native):
    """Step by step through the module's full forward, against streams and speculation."""
    decoding = DecodingConfig(native=native)
    drafter = PreviousFrame(NET.frame_tokens)
    for seed in range(8):
        prompt = torch.randint(12, (2, 3 + seed), generator=seeded(seed))
        count = 30 - prompt.shape[1]
        whole = prompt
        with torch.no_grad():
            for _ in range(count):
                whole = torch.cat((whole, network(whole)[:, -1:].argmax(-1)), 1)
        fast = generate_tokens(network, prompt, count, GREEDY, decoding=decoding)
        assert torch.equal(fast, whole[:, prompt.shape[1] :])
        drafted = speculate_tokens(
            network, prompt[:1], count, GREEDY, drafter, num_drafts=DraftLength(), decoding=decoding
        )
        assert torch.equal(drafted, fast[:1])


@pytest.mark.parametrize(
    "given, total, longest, keep, expected",
    [
        (1, 3, 3, 2, [(1, 2)]),
        (0, 3, 3, 2, [(0, 3)]),
        (2, 7, 3, 2, [(2, 1)] * 5),
        (1, 9, 5, 2, [(1, 4), (2, 3), (2, 1)]),
        (4, 5, 3, 1, [(1, 1)]),
        (0, 4, 2, 1, [(0, 2), (1, 1), (1, 1)]),
    ],
)
def test_windows(given, total, longest, keep, expected):
    found = plan_windows(given, total, longest, keep)
    assert [(window.carried, window.made) for window in found] == expected
    assert given + sum(window.made for window in found) == total


def test_windows_that_cannot_be():
    with pytest.raises(ValueError, match="num_latent_frames=3: must be above the 3 given"):
        plan_windows(3, 3, 5, 2)
    with pytest.raises(ValueError, match=r"keep=5: must be in 1..4 for 6 latent frames"):
        plan_windows(3, 6, 5, 5)


@pytest.mark.parametrize("bov", [False, True])
def test_a_long_video_equals_chaining_by_hand(bov):
    torch.manual_seed(1)
    net = replace(NET, bov=bov, grid=(3, 2, 3))
    model = AutoregressiveWorldModel(
        net=net,
        objective=NextTokenConfig(),
        sampler=SamplerConfig(temperature=1.3),
        text=TextConfig(),
        tokenizer_sha256="",
    ).eval()
    given = torch.randint(12, (2, 1, 2, 3), generator=seeded(0))
    decoding = DecodingConfig(keep=1)
    found = model.generate(given, 6, generator=seeded(2), decoding=decoding)
    generator = seeded(2)
    first = model.generate(given, 3, generator=generator)
    second = model.generate(first[:, -1:], 3, generator=generator)
    third = model.generate(second[:, -1:], 2, generator=generator)
    by_hand = torch.cat((first, second[:, 1:], third[:, 1:]), 1)
    assert torch.equal(found, by_hand)
    frames = list(model.stream(given, 6, generator=seeded(2), decoding=decoding))
    assert torch.equal(torch.stack(frames, 1), found[:, 1:])


def test_a_perfect_drafter_saves_passes(network):
    prompt = torch.randint(12, (1, 6), generator=seeded(2))
    truth = torch.cat((prompt, generate_tokens(network, prompt, 20, GREEDY)), 1)[0]

    class Oracle:
        def propose(self, tokens, count):
            return truth[len(tokens) : len(tokens) + count]

    found = Statistics()
    tokens = speculate_tokens(network, prompt, 20, GREEDY, Oracle(), num_drafts=4, statistics=found)
    assert torch.equal(tokens[0], truth[6:])
    assert found.passes == 4  # one token of the prompt's pass, then 5, 5, 5 and 4


def test_the_drafter_looks_one_frame_back():
    tokens = torch.arange(10)
    assert PreviousFrame(6).propose(tokens, 3).tolist() == [4, 5, 6]
    assert PreviousFrame(6).propose(tokens, 9).tolist() == [4, 5, 6, 7, 8, 9]
    assert PreviousFrame(11).propose(tokens, 3).tolist() == []


def test_seeds_batches_and_streams(network):
    sampler = SamplerConfig(top_p=0.95)
    prompt = torch.randint(12, (3, 6), generator=seeded(0))
    one = generate_tokens(network, prompt, 9, sampler, generator=seeded(4))
    assert torch.equal(one, generate_tokens(network, prompt, 9, sampler, generator=seeded(4)))
    assert not torch.equal(one, generate_tokens(network, prompt, 9, sampler, generator=seeded(5)))
    stream = stream_tokens(network, prompt, 9, sampler, generator=seeded(4))
    assert torch.equal(torch.stack([next(stream), next(stream)], 1), one[:, :2])
    greedy = generate_tokens(network, prompt, 9, GREEDY)
    for row in range(3):
        assert torch.equal(
            greedy[row : row + 1], generate_tokens(network, prompt[row : row + 1], 9, GREEDY)
        )


def test_the_cache_is_as_large_as_needed_and_its_cost_does_not_grow(network, monkeypatch):
    sizes = []
    original = KeyValueCache.__init__

    def noted(self, config, **options):
        sizes.append(options["capacity"])
        original(self, config, **options)

    monkeypatch.setattr(KeyValueCache, "__init__", noted)
    generate_tokens(network, torch.zeros(1, 4, dtype=torch.long), 5, GREEDY)
    assert sizes == [9]


def test_mistakes_are_named(network):
    prompt = torch.zeros(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="ids 0 to 12: must be in 0..11"):
        generate_tokens(network, torch.tensor([[0, 12]]), 2, GREEDY)
    with pytest.raises(ValueError, match="31 tokens: must be at most 30"):
        generate_tokens(network, prompt, 27, GREEDY)
    with pytest.raises(ValueError, match="count=0"):
        generate_tokens(network, prompt, 0, GREEDY)
    with pytest.raises(ValueError, match="2 sequences"):
        speculate_tokens(network, prompt.expand(2, -1), 2, GREEDY, PreviousFrame(6))
    for values, name in (
        ({"temperature": -1.0}, "temperature=-1"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0"),
    ):
        with pytest.raises(ValueError, match=name):
            SamplerConfig(**values)
