"""Training checkpoints of the original release (``model.pt``): the network, averaged or not.

The file is a dictionary whose ``model`` holds ``network.<name>`` and, of the moving average,
``ema.network-<name with dots as dashes>`` (``net`` instead of ``network`` for diffusion); optimiser
state is left alone. Plain state dicts saved with ``torch.save`` are read too. Nothing in the file
is executed. Source: arXiv 2501.03575 code, tokenizer/training/checkpointer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from openwfm.interop.saved import read_saved
from openwfm.interop.tokenizer_names import is_constant


def read_training_checkpoint(
    path: Path | str,
    *,
    average: bool | None = None,
    network: str = "network",
    constant: Callable[[str], bool] = is_constant,
) -> tuple[dict[str, Tensor], bool]:
    """Tensors by the release's names, without the prefix ``network``, and whether they are the
    averaged ones.

    ``average`` None takes the moving average where there is one, True requires it, False leaves it.
    What ``constant`` names has no average and comes from the network itself. Raises ValueError
    naming the file when it holds no tensors, or no average though one is required.
    """
    loaded: Mapping[str, Any] = read_saved(path)
    holder = loaded["model"] if isinstance(loaded.get("model"), Mapping) else loaded
    if isinstance(holder.get("state_dict"), Mapping):
        holder = holder["state_dict"]
    tensors = {str(n): t for n, t in holder.items() if isinstance(t, Tensor)}
    if not tensors:
        keys = ", ".join(map(str, list(holder)[:5])) or "nothing"
        raise ValueError(f"{path}: holds no tensors by name (it has {keys})")
    prefix = f"ema.{network}-"
    averaged = {
        name.removeprefix(prefix).replace("-", "."): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    if average and not averaged:
        raise ValueError(f"average=true: {path} holds no moving average ({prefix}…)")
    plain = {
        name.removeprefix(f"{network}."): tensor
        for name, tensor in tensors.items()
        if not name.startswith(("ema.", "loss."))
    }
    if not averaged or average is False:
        return plain, False
    return {n: t for n, t in plain.items() if constant(n)} | averaged, True
