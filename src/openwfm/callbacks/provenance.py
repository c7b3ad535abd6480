"""Write down what made a run: ``provenance.json`` and, for uncommitted code, its diff."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L

from openwfm.files import read_json, write_json, write_text
from openwfm.provenance import code_state, command_line, machine, package_versions

FILE = "provenance.json"


class Provenance(L.Callback):
    """One entry in ``sessions`` for every time the run is started or resumed.

    A session holds git commit, hash of the uncommitted diff (the diff itself is written beside),
    package versions, machine, device, seed, hash of the data manifest and the command line.
    """

    def __init__(self, *, folder: str) -> None:
        self.folder = Path(folder)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        path = self.folder / FILE
        sessions = read_json(path)["sessions"] if path.is_file() else []
        sessions.append(self._session(trainer, pl_module, len(sessions)))
        write_json(path, {"schema": 1, "sessions": sessions})

    def _session(
        self, trainer: L.Trainer, pl_module: L.LightningModule, number: int
    ) -> dict[str, Any]:
        code = code_state()
        diff_file = None
        if code.diff:
            diff_file = f"uncommitted_{number:03d}.diff"
            write_text(self.folder / diff_file, code.diff + "\n")
        return {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command_line(),
            "git_commit": code.commit,
            "uncommitted_sha256": code.diff_sha256,
            "uncommitted_file": diff_file,
            "packages": package_versions(),
            "machine": machine(),
            "device": str(pl_module.device),
            "num_processes": trainer.world_size,
            "precision": str(trainer.precision),
            "seed": getattr(pl_module, "seed", None),
            "start_step": trainer.global_step,
            "start_weights": getattr(pl_module, "weights", None),
            "data_manifest_sha256": getattr(
                getattr(trainer, "datamodule", None), "manifest_sha256", None
            ),
        }
