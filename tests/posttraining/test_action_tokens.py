"""Actions as context tokens of an autoregressive world: nothing at the start, obeyed at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openwfm.autoregressive import TransformerConfig
from openwfm.autoregressive.model import AutoregressiveWorldModel, load_autoregressive_model
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.autoregressive.start import start_from
from openwfm.config import build, compose
from openwfm.posttraining import CONTEXTS
from openwfm.posttraining.action_tokens import ActionTokensConfig
from tests.autoregressive.test_start import publish, world

NET = TransformerConfig(
    width=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden=48,
    vocabulary=16, grid=(3, 2, 2),
)  # fmt: skip
STEERED = replace(NET, context_width=24)
ACTION = ActionTokensConfig(
    names=("left", "up"), units=("m", "m"), mean=(0.0, 0.0), std=(1.0, 1.0), low=(-1.0, -1.0),
    high=(1.0, 1.0), rate=5.0, steps=2, hidden_ratio=1.0, dropout=0.0,
)  # fmt: skip
NO_TEXT = {"text": world(NET).text}


def steered(net: TransformerConfig = STEERED, **changes: object) -> AutoregressiveWorldModel:
    torch.manual_seed(3)
    assert net.context_width is not None
    model: AutoregressiveWorldModel = world(net, control=ACTION.build(net.context_width), **changes)
    return model


def clips(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Every frame shows one token everywhere, after the first the one that its action names."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randint(2, (count, 2, 2), generator=generator).float() * 2 - 1
    first = torch.randint(16, (count, 1), generator=generator)
    named = (8 * (actions[..., 0] > 0) + 4 * (actions[..., 1] > 0)).long()
    indices = torch.cat((first, named), 1)[:, :, None, None].expand(-1, -1, 2, 2)
    return indices.contiguous(), actions


@torch.no_grad()
def loss_of(model: AutoregressiveWorldModel, indices: Tensor, actions: Tensor) -> float:
    draws = model.draw(len(indices), torch.Generator())
    hidden = model.hidden(indices, draws, text=None, actions=actions)
    return float(model.loss(indices, hidden).cross_entropy)


def test_it_starts_as_its_base_bit_for_bit(tmp_path: Path) -> None:
    base, model = world(NET), steered(**NO_TEXT)
    start_from(model, publish(base, tmp_path), grow=True)
    indices, actions = clips(4)
    tokens = base.sequence(indices)
    context = model.context(None, actions=actions)
    assert torch.equal(model.net(tokens, context=context), base.net(tokens))
    again = steered(**NO_TEXT)
    start_from(again, publish(model, tmp_path / "again"))
    assert torch.equal(again.net(tokens, context=context), base.net(tokens))


def test_it_starts_as_a_base_that_reads_text(tmp_path: Path) -> None:
    net = replace(NET, context_width=8)
    base, model = world(net), steered(net)
    start_from(model, publish(base, tmp_path))
    indices, actions = clips(4)
    text = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(1))
    tokens = base.sequence(indices)
    ours = model.net(tokens, context=model.context(text, actions=actions))
    assert torch.allclose(ours, base.net(tokens, context=base.context(text)), atol=1e-5)


def test_a_trained_toy_obeys_and_an_ablated_one_does_not(tmp_path: Path) -> None:
    model, ablated = steered(**NO_TEXT), world(NET)
    for learner in (model, ablated):
        learner.train()
        optimizer = torch.optim.AdamW(learner.parameters(), lr=5e-3)
        for step in range(200):
            indices, actions = clips(32, seed=2 + step)
            draws = learner.draw(len(indices), torch.Generator())
            given = None if learner is ablated else actions
            hidden = learner.hidden(indices, draws, text=None, actions=given)
            loss = learner.loss(indices, hidden).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        learner.eval()
    fresh, commands = clips(64, seed=1)
    shuffled = commands.roll(1, 0)
    right, wrong = loss_of(model, fresh, commands), loss_of(model, fresh, shuffled)
    assert right < 0.5 and wrong > right + 1
    mute = steered(**NO_TEXT)
    start_from(mute, publish(ablated, tmp_path / "mute"), grow=True)
    blind = loss_of(mute, fresh, commands)
    assert blind == loss_of(mute, fresh, shuffled)
    # Being told the wrong thing is worse than being told nothing.
    assert right < blind < wrong
    greedy = SamplerConfig(temperature=0.0)
    made = model.generate(fresh[:, :1], 3, actions=commands, sampler=greedy)
    assert float((made == fresh).float().mean()) > 0.9
    loaded = load_autoregressive_model(publish(model, tmp_path / "model"), CONTEXTS)
    again = loaded.generate(fresh[:, :1], 3, actions=commands, sampler=greedy)
    assert torch.equal(made, again)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    model = steered(**NO_TEXT)
    indices, actions = clips(2)
    for given, words in (
        (None, "action: missing"),
        (actions[..., :1], r"action: shape \(2, 2, 1\)"),
        (actions.repeat(1, 2, 1), r"action: 4 steps: must be control\.steps=2"),
        (actions * torch.nan, "action: must be finite"),
    ):
        with pytest.raises(ValueError, match=words):
            model.generate(indices[:, :1], 3, actions=given)
    with pytest.raises(ValueError, match=r"num_latent_frames=5: must be at most 3"):
        model.generate(indices[:, :1], 5, actions=actions)
    with pytest.raises(ValueError, match="context_width: null"):
        world(NET, control=ACTION.build(8), **NO_TEXT)
    with pytest.raises(ValueError, match=r"control\.kind=action_tokens: must be one of none"):
        load_autoregressive_model(publish(model, tmp_path))


def test_the_config_builds_it() -> None:
    config = compose("train", ["experiment=autoregressive_action"])
    module = build(config.model)
    assert module.control.steps == 16
    assert module.net_config.context_width == module.net_config.width
