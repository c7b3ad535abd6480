"""Publish the weights of a run beside its checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import lightning as L
from torch import Tensor

from openwfm.callbacks.ema import averaged_module
from openwfm.files import atomic_path
from openwfm.weights import CONFIG, STATISTICS, TENSORS, plain, save_weights


@runtime_checkable
class Exportable(Protocol):
    """What a LightningModule offers so that its weights can be published."""

    def export_config(self) -> dict[str, Any]: ...

    def export_tensors(self) -> dict[str, Tensor]: ...


class ExportWeights(L.Callback):
    """Writes ``folder/{config.json,model.safetensors}`` at every checkpoint and when fit ends.

    The weights are the averaged ones when a weight-averaging callback runs. ``config.json`` also
    gets ``step`` and, if the datamodule describes its data (``export_config``), ``data``. A module
    with a ``tokenizer_folder`` gets that tokenizer as ``folder/tokenizer``; what was learned beside
    a frozen base (``export_adapter``) is in ``folder/adapter`` too.
    """

    def __init__(self, *, folder: str) -> None:
        self.folder = Path(folder)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, Exportable):
            raise ValueError(
                f"callbacks.export: {type(pl_module).__name__} has no export_config() and "
                "export_tensors(); remove the callback or add them"
            )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._write(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        module = cast(Exportable, averaged_module(trainer, pl_module))
        config = {**module.export_config(), "step": trainer.global_step}
        describe = getattr(getattr(trainer, "datamodule", None), "export_config", None)
        if describe is not None:
            config["data"] = describe()
        tokenizer = getattr(pl_module, "tokenizer_folder", None)
        if tokenizer is not None:
            copy_weights(Path(tokenizer), self.folder / "tokenizer")
        save_weights(self.folder, plain(config), module.export_tensors())
        adapter = getattr(module, "export_adapter", lambda: None)()
        if adapter is not None:
            values = {**adapter[0], **{n: config[n] for n in ("step", "data") if n in config}}
            save_weights(self.folder / "adapter", plain(values), adapter[1])


def copy_weights(source: Path, target: Path) -> None:
    """Copy a published folder file by file; each file arrives whole or not at all."""
    for name in (STATISTICS, TENSORS, CONFIG):
        if not (source / name).is_file():
            if name == STATISTICS:
                continue
            raise ValueError(f"{source / name}: no such file; it is not a folder of weights")
        with atomic_path(target / name) as temporary:
            shutil.copyfile(source / name, temporary)
