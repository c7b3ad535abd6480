"""Which parameters weight decay acts on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

Groups = Iterable[dict[str, Any]]


def decay_groups(module: nn.Module, exempt: tuple[str, ...]) -> Groups:
    """Optimiser groups of all that learns: matrices decay, vectors and names that begin with
    ``exempt`` do not. A group is left out when it is empty."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim >= 2 and not name.startswith(exempt)
        (decayed if matrix else plain).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
