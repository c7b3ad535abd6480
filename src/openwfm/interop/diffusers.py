"""diffusers' Cosmos classes and ours, both ways, strictly."""

from __future__ import annotations

from torch import nn

from openwfm.diffusion import DiT
from openwfm.interop.dit import from_diffusers_dit, to_diffusers_dit
from openwfm.interop.tokenizer import from_diffusers_tokenizer, to_diffusers_tokenizer
from openwfm.tokenizer import VideoTokenizer

_FROM = {
    "AutoencoderKLCosmos": from_diffusers_tokenizer,
    "CosmosTransformer3DModel": from_diffusers_dit,
}


def from_diffusers(module: nn.Module) -> nn.Module:
    """Our eval-mode module with the weights of theirs. Raises ValueError for another class."""
    name = type(module).__name__
    if name not in _FROM:
        raise ValueError(f"module={name}: must be one of {', '.join(_FROM)}")
    return _FROM[name](module)  # type: ignore[operator]


def to_diffusers(module: nn.Module) -> nn.Module:
    """Their eval-mode module with the weights of ours. Raises ValueError for another class."""
    if isinstance(module, VideoTokenizer):
        return to_diffusers_tokenizer(module)
    if isinstance(module, DiT):
        # diffusers' lazy imports hide from mypy that its classes are modules
        return to_diffusers_dit(module)  # type: ignore[return-value]
    raise ValueError(f"module={type(module).__name__}: must be a VideoTokenizer or a DiT")
