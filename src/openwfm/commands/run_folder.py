"""A training's run folder: what is written before it starts, and how it is taken up again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from openwfm.config import check
from openwfm.files import write_text

CONFIG, OVERRIDES = "config.yaml", "overrides.yaml"


def record(run: Path, config: DictConfig) -> None:
    """Write the resolved config and the overrides it came from; config.yaml last.

    A run that ended before its first checkpoint starts anew: its overrides, which the config has
    been made from, are kept (`resumed_config`).
    """
    if HydraConfig.initialized() or not (run / OVERRIDES).is_file():
        overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
        write_text(run / OVERRIDES, OmegaConf.to_yaml(OmegaConf.create(overrides)))
    write_text(run / CONFIG, OmegaConf.to_yaml(config, resolve=True))


def resumed_config(overrides: Sequence[str]) -> DictConfig | None:
    """The config of an existing run folder named by ``run=…``, with value overrides on top."""
    named = [item.partition("=")[2] for item in overrides if item.startswith("run=")]
    if not named or not (Path(named[-1]) / CONFIG).is_file():
        return None
    run = Path(named[-1])
    config = OmegaConf.load(run / CONFIG)
    recorded = OmegaConf.to_container(OmegaConf.load(run / OVERRIDES))
    assert isinstance(config, DictConfig) and isinstance(recorded, list)
    OmegaConf.set_struct(config, True)
    for item in overrides:
        if item in recorded or item.startswith("run="):
            continue
        key, _, value = item.partition("=")
        try:
            OmegaConf.update(config, key, _plain(value), merge=True)
        except OmegaConfBaseException:
            raise ValueError(
                f"{item}: run={run} exists and is resumed; only values of its config.yaml can be "
                "overridden (another experiment needs another run folder)"
            ) from None
    OmegaConf.update(config, "paths.run", str(run))
    check(config, "train")
    return config


def _plain(value: str) -> Any:
    container = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
    assert isinstance(container, dict)
    return container["value"]


def keep_metrics(run: Path) -> None:
    """Lightning's CSV logger starts a new file on resume; keep the one that is there."""
    current = run / "metrics" / "metrics.csv"
    if current.is_file():
        parts = (run / "metrics" / f"metrics.{i:03d}.csv" for i in itertools.count())
        os.replace(current, next(part for part in parts if not part.exists()))
