"""From one training stage to the next: the same network, more frames or more pixels.

Only what says how large a clip may be can change (arXiv 2501.03575, table 12): the position tables
and the ratios of the rotary embedding. Everything else is loaded strictly.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.diffusion.published import load_world_model
from openwfm.weights import load_strict

SIZE_FIELDS = ("max_size", "rope_scale")
VIEW_FIELDS = ("num_views", "view_channels", "joint_views")
TABLES = ("net.position.t", "net.position.h", "net.position.w")


def resize_table(table: Float[Tensor, "n d"], length: int) -> Float[Tensor, "m d"]:
    """The first ``length`` rows; beyond the last one it is repeated. A position keeps its row, so
    a clip of the earlier stage is seen as before."""
    return table[torch.arange(length, device=table.device).clamp(max=len(table) - 1)]


def start_from(model: DiffusionWorldModel, folder: Path | str, *, resize: bool) -> None:
    """Weights and latent statistics of a published folder into ``model``.

    With ``resize`` the networks may differ in `SIZE_FIELDS`. A network of several views may start
    from one of a single view: what names the view starts without effect. Raises ValueError naming
    the fields that differ and must not.
    """
    control = model.control
    readers = {} if control is None else {control.kind: type(control).read}
    published = load_world_model(folder, readers, kind=model.export_config()["kind"])
    own, found = model.net.config, published.net.config
    added = 0 if control is None or published.control is not None else control.channels
    views = own.view_channels if found.num_views == 1 else 0
    free = (*(SIZE_FIELDS if resize else ()), *(("extra_channels",) if added else ()))
    free += VIEW_FIELDS if views else ()
    names = differing(own, found, free)
    if added and own.extra_channels - added != found.extra_channels:
        names.append("extra_channels")
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
    if added:
        tensors["net.patch_in.weight"] = widened(tensors["net.patch_in.weight"], own, added)
    if control is not None and published.control is None:
        tensors |= {f"control.{name}": t for name, t in control.state_dict().items()}
    if views:
        weight = tensors["net.patch_in.weight"]
        zeros = weight.new_zeros(len(weight), views * math.prod(own.patch))
        tensors["net.patch_in.weight"] = torch.cat((weight, zeros), dim=1)
        tensors |= {name: t for name, t in wanted.items() if name.startswith("net.views.")}
    load_strict(model, tensors, str(folder))


def widened(weight: Float[Tensor, "d i"], config: DiTConfig, added: int) -> Float[Tensor, "d j"]:
    """The patch embedding of a network with ``added`` more extra channels, zero for those: it
    computes what it did. They are the last of the extra channels, before all that follows."""
    volume = math.prod(config.patch)
    before = config.in_channels + int(config.condition_mask) + config.extra_channels - added
    head, tail = weight[:, : before * volume], weight[:, before * volume :]
    return torch.cat((head, weight.new_zeros(len(weight), added * volume), tail), dim=1)


def differing(own: DiTConfig, found: DiTConfig, free: tuple[str, ...]) -> list[str]:
    """Fields in which two networks differ, but for those of ``free``."""
    other = replace(found, **{name: getattr(own, name) for name in free})
    return [name for name in own.__dataclass_fields__ if getattr(own, name) != getattr(other, name)]
