"""``openwfm train``: one module, one data module, one Lightning trainer, one run folder."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from openwfm.config import build, check
from openwfm.files import write_text

# A checkpoint is trusted to be whole because it is renamed into place (see callbacks).
LAST = Path("checkpoints") / "last.ckpt"


def resumed_config(overrides: Sequence[str]) -> DictConfig | None:
    """The config of an existing run folder named by ``run=…``, with value overrides on top."""
    named = [item.partition("=")[2] for item in overrides if item.startswith("run=")]
    if not named or not (Path(named[-1]) / "config.yaml").is_file():
        return None
    run = Path(named[-1])
    config = OmegaConf.load(run / "config.yaml")
    recorded = OmegaConf.to_container(OmegaConf.load(run / "overrides.yaml"))
    assert isinstance(config, DictConfig) and isinstance(recorded, list)
    OmegaConf.set_struct(config, True)
    for item in overrides:
        if item in recorded or item.startswith("run="):
            continue
        key, _, value = item.partition("=")
        try:
            OmegaConf.update(config, key, OmegaConf.create({"v": _plain(value)}).v, merge=True)
        except OmegaConfBaseException:
            raise ValueError(
                f"{item}: run={run} exists and is resumed; only values of its config.yaml can be "
                "overridden (another experiment needs another run folder)"
            ) from None
    OmegaConf.update(config, "paths.run", str(run))
    check(config, "train")
    return config


def _plain(value: str) -> Any:
    return OmegaConf.to_container(OmegaConf.from_dotlist([f"v={value}"]))["v"]  # type: ignore[index,call-overload]


def main(config: DictConfig) -> int:
    """Train, or resume when the run folder holds a checkpoint; returns 0."""
    import lightning
    import torch

    run = Path(config.paths.run)
    last = run / LAST
    if not (run / "config.yaml").is_file():
        _record(run, config)
    if config.num_threads:
        torch.set_num_threads(int(config.num_threads))
    lightning.seed_everything(int(config.seed), workers=True, verbose=False)
    _silence()
    datamodule, module = build(config.data), build(config.model)
    callbacks = [build(node) for node in (config.callbacks or {}).values() if node]
    logger = build(config.logger) if config.logger else False
    if last.is_file():
        _keep_metrics(run)
    trainer = build(
        config.trainer, callbacks=callbacks, logger=logger, default_root_dir=str(run)
    )
    _cache_latents(module, datamodule)
    trainer.fit(
        module, datamodule=datamodule, ckpt_path=str(last) if last.is_file() else None,
        weights_only=True,
    )
    if trainer.interrupted:
        print(f"interrupted at step {trainer.global_step}; resume with: openwfm train run={run}")
        return 1
    print(f"trained to step {trainer.global_step}: {run}")
    return 0


def _record(run: Path, config: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    write_text(run / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
    write_text(run / "config.yaml", OmegaConf.to_yaml(config, resolve=True))


def _cache_latents(module: Any, datamodule: Any) -> None:
    """Encode the training windows once, and give the module their statistics."""
    if datamodule.config.latents is None or not hasattr(module, "set_latent_statistics"):
        return
    module.configure_model()
    cache = datamodule.prepare_latents(module.encode_latents, module.tokenizer_sha256)
    module.set_latent_statistics(*cache.statistics())


def _keep_metrics(run: Path) -> None:
    """Lightning's CSV logger starts a new file on resume; keep the one that is there."""
    current = run / "metrics" / "metrics.csv"
    if current.is_file():
        parts = (run / "metrics" / f"metrics.{i:03d}.csv" for i in itertools.count())
        os.replace(current, next(part for part in parts if not part.exists()))


def _silence() -> None:
    """Advice of Lightning that does not hold here, and only that."""
    for text in (
        ".*does not have many workers.*",  # windows come from a memory map
        ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
        ".*resuming from a checkpoint that ended before the epoch ended.*",  # endless epochs
        ".*Experiment logs directory .* exists and is not empty.*",  # parts are kept
    ):
        warnings.filterwarnings("ignore", message=text)
