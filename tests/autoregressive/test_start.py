"""Each stage of training starts from the weights of the one before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from openwfm.autoregressive import TransformerConfig, YarnConfig
from openwfm.autoregressive.medusa import MedusaConfig
from openwfm.autoregressive.model import (
    AutoregressiveWorldModel,
    TextConfig,
    load_autoregressive_model,
)
from openwfm.autoregressive.objective import NextTokenConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.autoregressive.start import start_from
from openwfm.weights import plain, save_weights

NET = TransformerConfig(
    width=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden=48,
    vocabulary=16, grid=(3, 2, 2),
)  # fmt: skip
YARN = YarnConfig(original=(3, 2, 2))
LONG = replace(NET, grid=(5, 2, 2), yarn=YARN)
TEXT = replace(LONG, bov=True, embeddings=20, context_width=8, absolute_position=True)


def world(net: TransformerConfig, **changes: Any) -> AutoregressiveWorldModel:
    text = TextConfig(encoder="none" if net.context_width is None else "minilm-l6-v2", tokens=4)
    values: dict[str, Any] = {
        "net": net,
        "objective": NextTokenConfig(),
        "sampler": SamplerConfig(),
        "text": text,
        "tokenizer_sha256": "a" * 64,
        **changes,
    }
    return AutoregressiveWorldModel(**values).eval()


def publish(model: AutoregressiveWorldModel, folder: Path) -> str:
    save_weights(folder, plain(model.export_config()), model.state_dict())
    return str(folder)


def test_longer_clips_with_yarn_then_text(tmp_path):
    first = world(NET)
    second = world(LONG)
    start_from(second, publish(first, tmp_path / "1"), grow=True)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    third = world(TEXT)
    untouched = {name: value.clone() for name, value in third.state_dict().items()}
    start_from(third, publish(second, tmp_path / "2"), grow=True)
    for name, value in third.state_dict().items():
        if "cross_" in name:
            assert torch.equal(value, untouched[name])
        elif name == "net.embed.weight":
            assert torch.equal(value[:16], second.net.embed.weight)
            assert torch.equal(value[16:], untouched[name][16:])
        else:
            assert torch.equal(value, second.state_dict()[name])
    tokens = torch.randint(16, (1, 5, 2, 2))
    logits = third.net(third.sequence(tokens)[:, :-1], context=torch.zeros(1, 4, 8))
    assert torch.isfinite(logits).all()
    # What was published after growing starts as it is.
    again = world(TEXT)
    start_from(again, publish(third, tmp_path / "3"))
    for name, value in again.state_dict().items():
        assert torch.equal(value, third.state_dict()[name])


def test_heads_join_later_and_are_published(tmp_path):
    folder = publish(world(NET), tmp_path / "1")
    model = world(NET, medusa=MedusaConfig(num_heads=3))
    start_from(model, folder)
    model.medusa.merged.weight.data.normal_()
    loaded = load_autoregressive_model(publish(model, tmp_path / "2"))
    assert loaded.medusa.config.num_heads == 3
    assert torch.equal(loaded.medusa.merged.weight, model.medusa.merged.weight)
    assert loaded.drafter().network is loaded.net
    with pytest.raises(ValueError, match="medusa: null"):
        world(NET).drafter()
    with pytest.raises(ValueError, match="unknown medusa.merged.weight"):
        start_from(world(NET), str(tmp_path / "2"))
    with pytest.raises(ValueError, match="misshapen medusa.merged.weight"):
        start_from(world(NET, medusa=MedusaConfig(num_heads=2)), str(tmp_path / "2"))


@pytest.mark.parametrize("grow", [False, True])
@pytest.mark.parametrize(
    "net",
    [
        replace(NET, hidden=40),
        replace(NET, num_layers=3),
        replace(NET, grid=(3, 4, 2)),
        replace(NET, vocabulary=17),
        replace(NET, rope_theta=1e4),
    ],
)
def test_another_network_is_no_later_stage(tmp_path, net, grow):
    with pytest.raises(ValueError, match="its network"):
        start_from(world(net), publish(world(NET), tmp_path), grow=grow)


def test_a_stage_is_not_undone(tmp_path):
    folder = publish(world(TEXT), tmp_path)
    for net in (NET, LONG, replace(TEXT, grid=(3, 2, 2)), replace(TEXT, context_width=6)):
        with pytest.raises(ValueError, match="its network"):
            start_from(world(net), folder, grow=True)
    with pytest.raises(ValueError, match="a later stage of training sets grow"):
        start_from(world(NET), folder)
    with pytest.raises(ValueError, match="trained on the tokens of aaaaaaaaaaaa"):
        start_from(world(TEXT, tokenizer_sha256="b" * 64), folder, grow=True)


def test_yarn_is_not_taken_back(tmp_path):
    folder = publish(world(LONG), tmp_path)
    for yarn in (None, replace(YARN, scale=3.0)):
        with pytest.raises(ValueError, match="its network"):
            start_from(world(replace(LONG, yarn=yarn)), folder, grow=True)
