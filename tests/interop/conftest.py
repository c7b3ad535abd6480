"""Archives as the release has them: TorchScript modules whose tensors have given names."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Holder(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def module_of(tensors: Mapping[str, Tensor]) -> Holder:
    """A module with parameters (floats) and buffers (other types, `wavelets`) by dotted name."""
    root = Holder()
    for name, tensor in tensors.items():
        *parts, leaf = name.split(".")
        node: nn.Module = root
        for part in parts:
            if part not in dict(node.named_children()):
                node.add_module(part, Holder())
            node = dict(node.named_children())[part]
        if tensor.is_floating_point() and leaf in ("weight", "bias"):
            node.register_parameter(leaf, nn.Parameter(tensor.clone()))
        else:
            node.register_buffer(leaf, tensor.clone())
    return root.eval()


def write_archive(path: Path, tensors: Mapping[str, Tensor], *, trace: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = module_of(tensors)
        script = torch.jit.trace(module, torch.zeros(1)) if trace else torch.jit.script(module)
        torch.jit.save(script, str(path))
    return path


@pytest.fixture(scope="session")
def save_archive() -> Callable[..., Path]:
    """``save_archive(path, tensors, trace=…)`` writes such an archive."""
    return write_archive


@pytest.fixture
def cosmos(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """diffusers' module; where torchvision is missing, its nearest resize is stood in for.

    Without accelerate, diffusers cannot open a model that keeps parts in fp32; all of ours is.
    """
    module = pytest.importorskip("diffusers.models.transformers.transformer_cosmos")
    if not hasattr(module, "transforms"):
        resize = types.SimpleNamespace(
            resize=lambda image, size, interpolation: F.interpolate(image, size, mode=interpolation)
        )
        modes = types.SimpleNamespace(NEAREST="nearest")
        stand_in = types.SimpleNamespace(functional=resize, InterpolationMode=modes)
        monkeypatch.setattr(module, "transforms", stand_in, raising=False)
    monkeypatch.setattr(module.CosmosTransformer3DModel, "_keep_in_fp32_modules", None)
    return module
