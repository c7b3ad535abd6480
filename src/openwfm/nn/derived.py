"""Tensors that inference computes from parameters once, and again whenever one of them changes.

Folded and transformed kernels are such tensors. They are no part of a state dict, of a copy or of
a pickle, and training never sees them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def infers(layer: nn.Module, x: Tensor) -> bool:
    """Whether ``layer`` may use derived tensors on ``x``: in eval mode, on a CPU, where nothing
    asks for gradients, for a compiled graph or for less than single precision."""
    return not (
        layer.training
        or torch.is_grad_enabled()
        or x.device.type != "cpu"
        or x.dtype not in (torch.float32, torch.float64)
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
    )


class _Entry:
    """Derived tensors and the state of the sources that they were derived from.

    The sources' memory is kept, so that nothing else can take its address meanwhile.
    """

    def __init__(self, sources: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> None:
        self.sources = tuple(source.detach() for source in sources)
        self.versions = tuple(source._version for source in sources)
        self.values = values

    def holds(self, sources: tuple[Tensor, ...]) -> bool:
        return len(sources) == len(self.sources) and all(
            new._version == version
            and new.data_ptr() == old.data_ptr()
            and new.dtype == old.dtype
            and new.shape == old.shape
            and new.stride() == old.stride()
            for new, old, version in zip(sources, self.sources, self.versions, strict=True)
        )


class _Cache(dict[str, _Entry]):
    """Copies and pickles are empty: what they belong to has other parameters."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Cache:
        return _Cache()

    def __reduce__(self) -> tuple[type[_Cache], tuple[()]]:
        return _Cache, ()


class Derives(nn.Module):
    """A module with derived tensors.

    A change through an optimizer, ``load_state_dict``, ``.to()`` or any other in-place operation is
    seen by the parameter's version and address. Writing through ``parameter.data`` leaves no trace:
    call ``eval()`` or ``train()`` afterwards, as every validation loop does; both forget all.
    """

    def derived(
        self, name: str, derive: Callable[..., tuple[Tensor, ...]], *sources: Tensor
    ) -> tuple[Tensor, ...]:
        """``derive(*sources)``, remembered under ``name`` while ``sources`` stay what they are."""
        if any(source.is_inference() for source in sources):  # these have no version
            return derive(*sources)
        cache: _Cache = self.__dict__.setdefault("_derived", _Cache())
        entry = cache.get(name)
        if entry is None or not entry.holds(sources):
            # Outside inference mode, so that the result can be used anywhere.
            with torch.inference_mode(False), torch.no_grad():
                entry = cache[name] = _Entry(sources, derive(*sources))
        return entry.values

    def train(self, mode: bool = True) -> Derives:
        self.__dict__.pop("_derived", None)
        return super().train(mode)
