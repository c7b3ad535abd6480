"""Which clips a run is measured on: those it held out, by its own split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from openwfm.data.batch import VideoBatch
from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.dataset import collate
from openwfm.data.order import equal_batches
from openwfm.evaluation.config import EvaluateConfig
from openwfm.files import read_json
from openwfm.randomness import numpy_generator
from openwfm.weights import CONFIG


def data_config(config: EvaluateConfig, weights: Path, *, text: bool) -> DataConfig:
    """The data the run trained with (its config.yaml, else its weights), overrides on top.

    Raises ValueError when neither says where the shards or how long the clips are.
    """
    trained = _trained_with(weights)
    given = {
        "shards": config.shards,
        "seed": config.data_seed,
        "kinds": config.kinds,
        "num_frames": config.num_frames,
    }
    known = {field.name for field in fields(DataConfig)}
    values = {name: value for name, value in trained.items() if name in known}
    values |= {name: value for name, value in given.items() if value is not None}
    for name in ("shards", "num_frames"):
        if values.get(name) is None:
            raise ValueError(f"{name}: missing: {weights} does not say it, so give it")
    values |= {"flip": 0.0, "latents": None, "num_workers": 0}
    values |= {"text": "optional" if text else "none"}
    return DataConfig(**values)


def _trained_with(weights: Path) -> dict[str, Any]:
    run = weights.parent / "config.yaml"
    if weights.name == "weights" and run.is_file():
        try:
            values = yaml.safe_load(run.read_text())["data"]["config"]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise ValueError(f"{run}: has no readable data.config ({error})") from error
        return {name: value for name, value in values.items() if name != "_target_"}
    return dict(read_json(weights / CONFIG).get("data") or {})


class DrawnClips:
    """Batches of ``num_clips`` windows drawn from a split without replacement; iterate at will."""

    def __init__(
        self,
        datamodule: ShardDataModule,
        split: str,
        *,
        num_clips: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.dataset = datamodule.dataset(split)
        self.text_tokens = datamodule.config.text_tokens
        order = numpy_generator(seed, f"draw clips/{split}").permutation(len(self.dataset))
        rows = sorted(int(row) for row in order[:num_clips])
        sizes = self.dataset.sizes()
        batches = equal_batches([sizes[row] for row in rows], batch_size)
        self.batches = [[rows[i] for i in batch] for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[VideoBatch]:
        for rows in self.batches:
            yield collate([self.dataset[row] for row in rows], self.text_tokens)
