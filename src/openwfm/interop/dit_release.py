"""Files of the original release that hold a diffusion network."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from openwfm.interop.dit_names import IGNORED
from openwfm.interop.training_checkpoint import read_training_checkpoint
from openwfm.weights import read_tensors

RELEASED, AVERAGED, TRAINED = "model.pt", "*_ema_model.pt", "*_reg_model.pt"


def read_dit_release(
    path: Path | str, *, average: bool | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors by the release's names (``net.`` taken off), and a line on the file that was read.

    ``path`` is a file (checkpoint, state dict, safetensors) or a folder: its ``model.pt``, else the
    last of training's ``…_ema_model.pt`` (the moving average) or ``…_reg_model.pt``, as ``average``
    says; other ranks' averages (``…_RANK1``) have names of their own and are read as files. Raises
    ValueError naming the file when there is none.
    """
    path = Path(path)
    if path.is_dir():
        path = _choose(path, average)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        tensors = {n.removeprefix("net."): t for n, t in read_tensors(path).items()}
        return tensors, [f"{path}: safetensors"]
    named = "_ema_model" in path.name  # an average under plain names
    tensors, averaged = read_training_checkpoint(
        path,
        average=None if named and average else average,
        network="net",
        constant=lambda name: bool(IGNORED.search(name)),
    )
    kind = "moving average" if averaged or named else "checkpoint"
    return tensors, [f"{path}: {kind}, its code left alone"]


def _choose(folder: Path, average: bool | None) -> Path:
    if (folder / RELEASED).is_file():
        return folder / RELEASED
    kinds = {None: (AVERAGED, TRAINED), True: (AVERAGED,), False: (TRAINED,)}[average]
    for kind in kinds:
        if files := sorted(folder.glob(kind)):
            return files[-1]
    raise ValueError(f"{folder}: has none of {', '.join((RELEASED, *kinds))}")
