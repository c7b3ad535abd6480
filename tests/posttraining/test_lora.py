"""Adapters: exact at the start, exact when merged, and only they learn."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.dit import DiT
from openwfm.posttraining.lora import (
    LoraConfig,
    LoraLinear,
    add_lora,
    learned_tensors,
    load_learned,
    merge_lora,
)


def network() -> DiT:
    torch.manual_seed(0)
    config = DiTConfig(
        in_channels=4, out_channels=4, width=32, num_blocks=2, num_heads=2, text_width=8,
        adaln_rank=4, max_size=(4, 8, 8), condition_mask=False, padding_mask=False,
    )  # fmt: skip
    return DiT(config).eval()


def output(net: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 3, 4, 4, generator=generator)
    text = torch.randn(2, 5, 8, generator=generator)
    result: Tensor = net(latents, torch.tensor([0.1]), text=text, fps=24.0)
    return result


def adapted(seed: int = 2, **values: object) -> tuple[DiT, list[str]]:
    net = network()
    names = add_lora(net, LoraConfig(**values), torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    return net, names


def teach(net: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def test_an_adapted_network_starts_as_its_base_bit_for_bit() -> None:
    net, names = adapted(rank=4)
    assert torch.equal(output(net), output(network()))
    assert len(names) == 2 * (2 + 3 + 2)  # qkv, out; q, kv, out; two of the MLP


def test_only_adapters_and_named_parameters_learn() -> None:
    net, names = adapted(rank=2, trained=r"patch_in")
    output(net).square().mean().backward()
    learned = set(learned_tensors(net))
    assert learned == {f"{n}.lora_{part}" for n in names for part in "ab"} | {"patch_in.weight"}
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == (name in learned), name


def test_merging_computes_the_same_with_plain_layers() -> None:
    net, names = adapted(rank=4, alpha=8.0)
    teach(net)
    before = output(net)
    assert not torch.allclose(before, output(network()))
    assert merge_lora(net) == len(names)
    assert not any(isinstance(module, LoraLinear) for module in net.modules())
    assert set(net.state_dict()) == set(network().state_dict())
    assert torch.allclose(output(net), before, atol=2e-6)


def test_the_small_file_and_the_base_are_the_whole() -> None:
    net, _ = adapted(rank=4, trained="patch_out")
    teach(net)
    small = {name: tensor.clone() for name, tensor in learned_tensors(net).items()}
    assert sum(t.numel() for t in small.values()) < 0.5 * sum(p.numel() for p in net.parameters())
    other, _ = adapted(seed=9, rank=4, trained="patch_out")
    load_learned(other, small)
    assert torch.equal(output(other), output(net))
    broken = copy.copy(small)
    first, second = list(small)[:2]
    broken["nobody"] = broken.pop(first)
    broken[second] = broken[second][:1]
    with pytest.raises(ValueError, match="missing .*unknown nobody|unknown nobody"):
        load_learned(other, broken)


def test_patterns_that_match_nothing_are_errors() -> None:
    with pytest.raises(ValueError, match="matches no linear layer"):
        adapted(pattern="nothing")
    with pytest.raises(ValueError, match="matches no parameter"):
        adapted(trained="nothing")
    with pytest.raises(ValueError, match="no regular expression"):
        LoraConfig(pattern="(")
    with pytest.raises(ValueError, match=r"lora\.rank=0"):
        LoraConfig(rank=0)
