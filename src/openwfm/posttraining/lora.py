"""Low-rank adapters (LoRA, arXiv 2106.09685) on the linear layers of any network of ours.

An adapted layer computes W·x + (alpha / rank)·B·A·x with W frozen. B starts at zero, so that the
network starts as it was, exactly.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from openwfm.nn.freeze import check_pattern, thaw


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """``pattern`` is searched for in the names of linear layers; ``trained`` names parameters that
    learn as they are beside the adapters (new ports, for instance)."""

    rank: int = 16
    alpha: float = 16.0
    pattern: str = r"attention\.|mlp\."
    trained: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank={self.rank}: must be at least 1")
        if not self.alpha > 0:
            raise ValueError(f"lora.alpha={self.alpha}: must be positive")
        for name in ("pattern", "trained"):
            check_pattern(f"lora.{name}", getattr(self, name))

    def adapt(self, network: nn.Module, generator: torch.Generator) -> None:
        """As `add_lora`."""
        add_lora(network, self, generator)

    def merged(self, network: nn.Module) -> nn.Module:
        """A copy of an adapted network with plain layers, which computes the same."""
        plain = copy.deepcopy(network)
        merge_lora(plain)
        return plain.requires_grad_(False)

    def learned(self, network: nn.Module) -> dict[str, Tensor]:
        """As `learned_tensors`."""
        return learned_tensors(network)

    def export_config(self) -> dict[str, Any]:
        return asdict(self)


class LoraLinear(nn.Linear):
    """A linear layer whose own ``weight`` is frozen, plus ``lora_b @ lora_a``."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n d"]:
        low = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return F.linear(x, self.weight, self.bias) + self.scale * low

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer that computes the same; the sum is taken in double precision."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        change = self.scale * (self.lora_b.double() @ self.lora_a.double())
        plain.weight = nn.Parameter((self.weight.double() + change).to(self.weight.dtype))
        if self.bias is not None:
            plain.bias = nn.Parameter(self.bias.clone())
        return plain.train(self.training)


def add_lora(network: nn.Module, config: LoraConfig, generator: torch.Generator) -> list[str]:
    """Freeze ``network`` but for adapters of all layers that match; returns those layers' names.

    Raises ValueError when no layer matches, or no parameter matches ``trained``.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and re.search(config.pattern, name)
    ]
    if not names:
        raise ValueError(f"lora.pattern={config.pattern}: matches no linear layer of the network")
    for name in names:
        base = network.get_submodule(name)
        assert isinstance(base, nn.Linear)
        layer = LoraLinear(base, config.rank, config.alpha)
        bound = 1 / math.sqrt(layer.in_features)
        draw = torch.rand(layer.lora_a.shape, generator=generator)
        layer.lora_a.data.copy_((2 * draw - 1) * bound)
        _replace(network, name, layer)
    if config.trained is not None:
        thaw(network, config.trained)
    return names


def merge_lora(network: nn.Module) -> int:
    """Replace every adapted layer by the plain one that computes the same; returns how many."""
    names = [n for n, module in network.named_modules() if isinstance(module, LoraLinear)]
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer, LoraLinear)
        _replace(network, name, layer.merged())
    return len(names)


def learned_tensors(network: nn.Module) -> dict[str, Tensor]:
    """What training changes: the small file that, with the base, is the whole."""
    return {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_learned(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raises ValueError listing what is missing, unknown or of another shape."""
    wanted = dict(learned_tensors(network))
    faults = [f"missing {name}" for name in wanted.keys() - tensors.keys()]
    faults += [f"unknown {name}" for name in tensors.keys() - wanted.keys()]
    faults += [
        f"{name}: shape {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted.keys() & tensors.keys()
        if tensors[name].shape != wanted[name].shape
    ]
    if faults:
        raise ValueError("adapter: " + _listed(sorted(faults)))
    for name, tensor in tensors.items():
        network.get_parameter(name).copy_(tensor)


def _listed(faults: Iterable[str], most: int = 10) -> str:
    lines = list(faults)
    rest = f", and {len(lines) - most} more" if len(lines) > most else ""
    return ", ".join(lines[:most]) + rest


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, layer)
