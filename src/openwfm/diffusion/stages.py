"""From one training stage to the next: the same network, more frames or more pixels.

Only what says how large a clip may be can change (arXiv 2501.03575, table 12): the position tables
and the ratios of the rotary embedding. Everything else is loaded strictly.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.model import DiffusionWorldModel, load_world_model
from openwfm.weights import load_strict

SIZE_FIELDS = ("max_size", "rope_scale")
TABLES = ("net.position.t", "net.position.h", "net.position.w")


def resize_table(table: Float[Tensor, "n d"], length: int) -> Float[Tensor, "m d"]:
    """The first ``length`` rows; beyond the last one it is repeated. A position keeps its row, so
    a clip of the earlier stage is seen as before."""
    return table[torch.arange(length, device=table.device).clamp(max=len(table) - 1)]


def start_from(model: DiffusionWorldModel, folder: Path | str, *, resize: bool) -> None:
    """Weights and latent statistics of a published folder into ``model``.

    With ``resize`` the networks may differ in `SIZE_FIELDS`. Raises ValueError naming the fields
    that differ and must not.
    """
    published = load_world_model(folder)
    own, found = model.net.config, published.net.config
    names = differing(own, found, SIZE_FIELDS if resize else ())
    if names:
        hint = "" if resize or differing(own, found, SIZE_FIELDS) else "; set model.resize=true"
        pairs = ", ".join(
            f"net.{name}={getattr(own, name)}, there {getattr(found, name)}" for name in names
        )
        raise ValueError(f"weights={folder}: its network differs from this one: {pairs}{hint}")
    model.set_latent_statistics(published.latent_mean, published.latent_std)
    tensors, wanted = published.state_dict(), model.state_dict()
    if resize:
        for name in set(TABLES) & set(wanted):
            tensors[name] = resize_table(tensors[name], len(wanted[name]))
    load_strict(model, tensors, str(folder))


def differing(own: DiTConfig, found: DiTConfig, free: tuple[str, ...]) -> list[str]:
    """Fields in which two networks differ, but for those of ``free``."""
    other = replace(found, **{name: getattr(own, name) for name in free})
    return [name for name in own.__dataclass_fields__ if getattr(own, name) != getattr(other, name)]
