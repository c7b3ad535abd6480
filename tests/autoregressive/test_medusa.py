"""Medusa heads: their loss, what they change (nothing), and what they save."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from torch.nn import functional as F

from openwfm.autoregressive import Transformer, TransformerConfig
from openwfm.autoregressive.generate import Statistics, generate_tokens, speculate_tokens
from openwfm.autoregressive.medusa import (
    MedusaConfig,
    MedusaDrafter,
    MedusaHeads,
    accepted_places,
    freeze_below,
    medusa_loss,
)
from openwfm.autoregressive.sampling import SamplerConfig

NET = TransformerConfig(
    width=32, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=16, hidden=40,
    vocabulary=12, grid=(5, 2, 3),
)  # fmt: skip
GREEDY = SamplerConfig(temperature=0.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    net = Transformer(NET).eval()
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.data *= 6
    return net


@pytest.fixture(scope="module")
def heads():
    torch.manual_seed(4)
    made = MedusaHeads(NET.width, MedusaConfig(num_heads=4))
    torch.nn.init.normal_(made.merged.weight, std=0.3)
    return made


def test_heads_begin_as_the_identity_and_are_one_product(heads):
    hidden = torch.randn(2, 5, NET.width, generator=seeded(0))
    fresh = MedusaHeads(NET.width, MedusaConfig(num_heads=3))
    torch.testing.assert_close(fresh(hidden), hidden[:, :, None].expand(-1, -1, 3, -1))
    # Head by head, as the paper writes them.
    matrices = heads.merged.weight.chunk(4)
    apart = torch.stack([hidden + F.silu(hidden @ matrix.T) for matrix in matrices], dim=2)
    torch.testing.assert_close(heads(hidden), apart)
    torch.testing.assert_close(heads(hidden, 2), apart[:, :, :2])


@pytest.mark.parametrize("begin", [False, True])
def test_the_loss_is_that_of_each_head_on_counted_targets(network, heads, begin):
    tokens = torch.randint(12, (2, 12), generator=seeded(1))
    counted = torch.rand(2, 12, generator=seeded(2)) > 0.4
    foreseen = 12 if begin else 11
    hidden = torch.randn(2, foreseen, NET.width, generator=seeded(3))
    expected = 0.0
    for head in range(4):
        losses = []
        for row in range(2):
            for place in range(foreseen):
                target = place + (0 if begin else 1) + head + 1
                if target < 12 and counted[row, target]:
                    logits = network.logits(heads(hidden[row, place])[None, head : head + 1])[0]
                    losses.append(F.cross_entropy(logits, tokens[row, target : target + 1]))
        expected = expected + 0.2 * 0.8 ** (head + 1) * torch.stack(losses).mean()
    found = medusa_loss(heads, network, hidden, tokens, counted)
    torch.testing.assert_close(found.loss, expected)
    assert found.accuracy.shape == (4,)


def test_alone_the_heads_teach_nothing_else(network, heads):
    tokens = torch.randint(12, (1, 12), generator=seeded(1))
    counted = torch.ones(1, 12, dtype=torch.bool)
    hidden = torch.randn(1, 11, NET.width, generator=seeded(3), requires_grad=True)
    parts = (heads.merged.weight, hidden, network.unembed.weight)
    gradients = []
    for alone in (False, True):
        found = medusa_loss(heads, network, hidden, tokens, counted, alone=alone)
        gradients.append(torch.autograd.grad(found.loss, parts, allow_unused=True))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert gradients[0][1].abs().sum() > 0
    assert gradients[0][2].abs().sum() > 0
    assert gradients[1][1:] == (None, None)


def test_targets_beyond_the_clip_count_nothing(network, heads):
    hidden = torch.randn(1, 3, NET.width)
    tokens, counted = torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.bool)
    found = medusa_loss(heads, network, hidden, tokens, counted)
    assert torch.isfinite(found.loss)
    assert torch.isnan(found.accuracy).tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="nothing is two ahead"):
        medusa_loss(heads, network, hidden[:, :1], tokens, counted)
    with pytest.raises(ValueError, match="nothing is two ahead"):
        medusa_loss(heads, network, hidden, tokens, ~counted)


def test_greedy_output_is_identical_on_a_hundred_prompts(network, heads):
    drafter = MedusaDrafter(heads, network)
    accepted = 0
    for seed in range(100):
        prompt = torch.randint(12, (1, 6 + seed % 5), generator=seeded(seed))
        count, found = 18 - seed % 3, Statistics()
        plain = generate_tokens(network, prompt, count, GREEDY)
        fast = speculate_tokens(
            network, prompt, count, GREEDY, drafter, num_drafts=1 + seed % 7, statistics=found
        )
        assert torch.equal(plain, fast)
        assert max(found.drafted) <= 4
        places = accepted_places(found, count)
        assert int(places.sum()) == sum(found.accepted) == count - 1 - found.passes
        accepted += sum(found.accepted)
    assert accepted > 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sampled_output_is_equal_in_distribution(network, heads, seed):
    """Joint counts of two tokens late in the sequence."""
    sampler = SamplerConfig(temperature=1.5, top_p=0.9)
    prompt = torch.randint(12, (1, 6), generator=seeded(5 + seed))
    drafter, generator, pairs = MedusaDrafter(heads, network), seeded(60 + seed), []
    for _ in range(500):
        tokens = speculate_tokens(
            network, prompt, 4, sampler, drafter, num_drafts=3, generator=generator
        )
        pairs.append(int(tokens[0, 2] // 3 * 4 + tokens[0, 3] // 3))
    plain = generate_tokens(network, prompt.expand(6000, -1), 4, sampler, generator=seeded(7))
    expected = torch.bincount(plain[:, 2] // 3 * 4 + plain[:, 3] // 3, minlength=16)
    counts = torch.bincount(torch.tensor(pairs), minlength=16)
    table = torch.stack((counts, expected))[:, (counts + expected) >= 20]
    assert scipy.stats.chi2_contingency(table.numpy()).pvalue > 0.01


def test_the_heads_of_a_rhythm_learn_it_and_save_passes():
    """Tokens that repeat every five: heads that foresee four more make five in a pass."""
    torch.manual_seed(0)
    config = MedusaConfig(num_heads=4, unfrozen_layers=None, weight=1.0)
    network, heads = Transformer(NET), MedusaHeads(NET.width, config)
    rhythm = torch.tensor([3, 1, 4, 1, 5]).repeat(6)
    tokens = torch.stack([rhythm.roll(shift) for shift in range(5)])
    counted = torch.ones_like(tokens, dtype=torch.bool)
    optimizer = torch.optim.AdamW([*network.parameters(), *heads.parameters()], lr=5e-3)
    for _ in range(60):
        hidden = network.hidden(tokens[:, :-1])
        own = F.cross_entropy(network.logits(hidden).flatten(0, 1), tokens[:, 1:].flatten())
        found = medusa_loss(heads, network, hidden, tokens, counted)
        optimizer.zero_grad()
        (own + found.loss).backward()
        optimizer.step()
    statistics = Statistics()
    made = speculate_tokens(
        network, tokens[:1, :10], 20, GREEDY, MedusaDrafter(heads, network), statistics=statistics
    )
    assert torch.equal(made, generate_tokens(network, tokens[:1, :10], 20, GREEDY))
    assert torch.equal(made[0], rhythm[10:])
    assert statistics.passes <= 8


def test_only_the_last_layers_learn(network):
    copy = Transformer(NET)
    freeze_below(copy, MedusaConfig(unfrozen_layers=2))
    learning = {name.split(".")[0] for name, p in copy.named_parameters() if p.requires_grad}
    assert learning == {"layers", "norm", "unembed"}
    assert [all(p.requires_grad for p in layer.parameters()) for layer in copy.layers] == [
        False, True, True,
    ]  # fmt: skip
    assert not copy.embed.weight.requires_grad
    with pytest.raises(ValueError, match=r"unfrozen_layers=4: must be at most net.num_layers=3"):
        freeze_below(copy, MedusaConfig(unfrozen_layers=4))
    freeze_below(network, MedusaConfig(unfrozen_layers=None))
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_heads": 0}, r"medusa\.num_heads=0"),
        ({"weight": 0.0}, r"medusa\.weight=0\.0"),
        ({"warmup_steps": -1}, r"medusa\.warmup_steps=-1"),
        ({"decay": 0.0}, r"medusa\.decay=0\.0"),
        ({"decay": 1.5}, r"medusa\.decay=1\.5"),
        ({"unfrozen_layers": -1}, r"medusa\.unfrozen_layers=-1"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        MedusaConfig(**values)
