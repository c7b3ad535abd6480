"""Sampling, and speculation that changes nothing but the number of passes."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from openwfm.autoregressive import KeyValueCache, Transformer, TransformerConfig
from openwfm.autoregressive.generate import (
    PreviousFrame,
    Statistics,
    generate_tokens,
    speculate_tokens,
    stream_tokens,
)
from openwfm.autoregressive.sampling import SamplerConfig, accept_drafts, draw, probabilities

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
