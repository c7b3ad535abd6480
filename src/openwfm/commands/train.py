"""``openwfm train``: one module, one data module, one Lightning trainer, one run folder."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from openwfm.commands.run_folder import keep_metrics, record, resumed_config
from openwfm.config import build

__all__ = ["main", "resumed_config"]

LAST = Path("checkpoints") / "last.ckpt"


def main(config: DictConfig) -> int:
    """Train, or resume when the run folder holds a checkpoint; returns 0."""
    _silence()
    import lightning
    import torch

    run = Path(config.paths.run)
    last = run / LAST
    if not last.is_file():
        record(run, config)
    if config.num_threads:
        torch.set_num_threads(int(config.num_threads))
    lightning.seed_everything(int(config.seed), workers=True, verbose=False)
    datamodule, module = build(config.data), build(config.model)
    _check_schedule(module)
    callbacks = [build(node) for node in (config.callbacks or {}).values() if node]
    if last.is_file():
        keep_metrics(run)
    logger = build(config.logger) if config.logger else False
    trainer = build(config.trainer, callbacks=callbacks, logger=logger, default_root_dir=str(run))
    _cache_latents(module, datamodule)
    resume = str(last) if last.is_file() else None
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    if trainer.interrupted:
        print(f"interrupted at step {trainer.global_step}; resume with: openwfm train run={run}")
        return 1
    print(f"trained to step {trainer.global_step}: {run}")
    return 0


def _check_schedule(module: Any) -> None:
    """Say that a schedule cannot be before the minutes that a cache of latents takes."""
    import torch

    if (scheduler := getattr(module, "scheduler", None)) is not None:
        scheduler(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0))


def _cache_latents(module: Any, datamodule: Any) -> None:
    """Encode the training windows once; a diffusion module that starts from nothing gets their
    statistics.

    Without a cache they are those that lie with the tokenizer, where it has some. Published weights
    bring the statistics they were trained with, and stay valid only with those.
    """
    from openwfm.tokenizer.statistics import read_statistics

    if not hasattr(module, "encode_latents"):
        return
    module.configure_model()
    fresh = module.weights is None and hasattr(module, "set_latent_statistics")
    if datamodule.config.latents is None:
        known = read_statistics(module.tokenizer_folder)
        if fresh and known is not None:
            module.set_latent_statistics(known.frame_mean, known.frame_std)
        return
    cache = datamodule.prepare_latents(module.encode_latents, module.tokenizer_sha256)
    if fresh:
        module.set_latent_statistics(*cache.statistics())


def _silence() -> None:
    """Advice of Lightning that does not hold here, and only that."""
    for text in (
        ".*does not have many workers.*",  # windows come from a memory map
        ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
        ".*resuming from a checkpoint that ended before the epoch ended.*",  # endless epochs
        ".*Experiment logs directory .* exists and is not empty.*",  # parts are kept
        ".*isinstance.treespec, LeafSpec.* is deprecated.*",  # inside Lightning
    ):
        warnings.filterwarnings("ignore", message=text)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
