"""Which parameters of a network learn, by patterns in their names."""

from __future__ import annotations

import re

from torch import nn


def check_pattern(name: str, pattern: str | None) -> None:
    """Raises ValueError when ``pattern`` is no regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"{name}={pattern}: no regular expression ({error})") from error


def freeze(network: nn.Module, pattern: str) -> list[str]:
    """Keep parameters whose name matches as they are; returns their names, ValueError when none
    matches, or all do."""
    check_pattern("frozen", pattern)
    named = dict(network.named_parameters())
    found = [name for name in named if re.search(pattern, name)]
    if not found:
        raise ValueError(f"frozen={pattern}: matches no parameter of the network")
    for name in found:
        named[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in named.values()):
        raise ValueError(f"frozen={pattern}: must leave a parameter that learns")
    return found


def thaw(network: nn.Module, pattern: str) -> list[str]:
    """Let parameters whose name matches learn; returns their names, ValueError when none does."""
    found = [name for name, _ in network.named_parameters() if re.search(pattern, name)]
    if not found:
        raise ValueError(f"trained={pattern}: matches no parameter of the network")
    for name in found:
        network.get_parameter(name).requires_grad_(True)
    return found
