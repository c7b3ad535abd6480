"""Published weights: a folder with ``config.json`` and ``model.safetensors``; never a pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from openwfm.files import atomic_path, read_json, write_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ConfigT = TypeVar("ConfigT", bound="DataclassInstance")
CONFIG, TENSORS = "config.json", "model.safetensors"
STATISTICS = "latents.safetensors"  # of a tokenizer's latents, where they were measured
SCHEMA = 1


def save_weights(
    folder: Path | str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write ``config`` (must hold a ``kind``) and ``tensors``; each file is whole or absent."""
    if "kind" not in config:
        raise ValueError("config.kind: missing; weights must say what they are")
    folder = Path(folder)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(folder / TENSORS) as temporary:
        temporary.write_bytes(save(plain, metadata={"format": "pt"}))
    write_json(folder / CONFIG, {"schema": SCHEMA, **config})


def read_weights(folder: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a published folder.

    Raises ValueError naming the file when one is missing, truncated, or of another kind.
    """
    folder = Path(folder)
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder / name}: no such file; published weights are {CONFIG} and {TENSORS}"
            )
    config = read_json(folder / CONFIG)
    if config.get("schema") != SCHEMA:
        raise ValueError(f"{folder / CONFIG}: schema={config.get('schema')}: must be {SCHEMA}")
    if config.get("kind") != kind:
        raise ValueError(f"{folder / CONFIG}: kind={config.get('kind')}: must be {kind}")
    return config, read_tensors(folder / TENSORS)


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Raises ValueError naming the file when it is not a whole safetensors file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``module``; a missing, unknown or misshapen key is a ValueError."""
    own = module.state_dict()
    problems = [f"missing {name} {tuple(own[name].shape)}" for name in own if name not in tensors]
    for name, tensor in tensors.items():
        if name not in own:
            problems.append(f"unknown {name} {tuple(tensor.shape)}")
        elif own[name].shape != tensor.shape:
            problems.append(
                f"misshapen {name}: {tuple(tensor.shape)} in the file, "
                f"{tuple(own[name].shape)} in the model"
            )
    if problems:
        shown = "\n  ".join(problems[:40])
        more = f"\n  … and {len(problems) - 40} more" if len(problems) > 40 else ""
        raise ValueError(f"{source}: {len(problems)} keys do not fit:\n  {shown}{more}")
    module.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})


def read_fields(kind: type[ConfigT], values: Mapping[str, Any], source: str) -> ConfigT:
    """A config dataclass from what ``asdict`` wrote; ValueError naming keys that differ.

    Weights published before a field was added lack it: ``metadata={"added": True}`` lets it take
    its default.
    """
    known = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if not field.metadata.get("added")}
    if not needed <= set(values) <= known:
        raise ValueError(
            f"{source}: {kind.__name__} has missing keys {sorted(needed - set(values))} "
            f"and unknown keys {sorted(set(values) - known)}"
        )
    return kind(**values)


def plain(value: Any) -> Any:
    """JSON form of a config dataclass's ``asdict`` (tuples become lists)."""
    return json.loads(json.dumps(value))


def read_pickled(path: Path | str) -> Any:
    """Tensors and plain values of a file of ``torch.save``; nothing in the file is executed."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(f"{path}: holds more than tensors and plain values ({error})") from error
    except (RuntimeError, EOFError, OSError, LookupError, struct.error) as error:
        raise ValueError(f"{path}: not a whole checkpoint ({error})") from error


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's tensors and plain values; see `read_pickled`."""
    loaded = read_pickled(path)
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: holds a {type(loaded).__name__}, not a checkpoint")
    return loaded
