"""Training checkpoints of the original release (``model.pt``): the network, averaged or not.

The file is a dictionary whose ``model`` holds ``network.<name>`` and, of the moving average,
``ema.network-<name with dots as dashes>``; optimiser state is left alone. Plain state dicts saved
with ``torch.save`` are read too. Nothing in the file is executed (``weights_only``).
Source: arXiv 2501.03575 code, tokenizer/training/checkpointer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from openwfm.interop.tokenizer_names import is_constant
from openwfm.weights import read_checkpoint

NETWORK, AVERAGE = "network.", "ema.network-"


def read_training_checkpoint(
    path: Path | str, *, average: bool | None = None
) -> tuple[dict[str, Tensor], bool]:
    """Tensors by the release's names, and whether they are the averaged ones.

    ``average`` None takes the moving average where there is one, True requires it, False leaves it.
    Constants, which have no average, come from the network itself. Raises ValueError naming the
    file when it holds no tensors, or no average though one is required.
    """
    loaded: Mapping[str, Any] = read_checkpoint(path)
    holder = loaded["model"] if isinstance(loaded.get("model"), Mapping) else loaded
    if isinstance(holder.get("state_dict"), Mapping):
        holder = holder["state_dict"]
    tensors = {str(n): t for n, t in holder.items() if isinstance(t, Tensor)}
    if not tensors:
        keys = ", ".join(map(str, list(holder)[:5])) or "nothing"
        raise ValueError(f"{path}: holds no tensors by name (it has {keys})")
    averaged = {
        name.removeprefix(AVERAGE).replace("-", "."): tensor
        for name, tensor in tensors.items()
        if name.startswith(AVERAGE)
    }
    if average and not averaged:
        raise ValueError(f"average=true: {path} holds no moving average ({AVERAGE}…)")
    plain = {
        name.removeprefix(NETWORK): tensor
        for name, tensor in tensors.items()
        if not name.startswith(("ema.", "loss."))
    }
    if not averaged or average is False:
        return plain, False
    return {n: t for n, t in plain.items() if is_constant(n)} | averaged, True
