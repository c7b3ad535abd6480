"""Embeddings of a folder of shards: one array and its keys, beside the shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from openwfm.data.shards import ShardIndex
from openwfm.files import atomic_path, read_json, sha256_file, write_json

VISUAL = "embeddings"


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Unit vectors of clips: row i belongs to ``keys[i]``; ``encoder`` made them."""

    keys: tuple[str, ...]
    vectors: Float[np.ndarray, "n d"]
    encoder: str


def write_embeddings(
    root: Path | str,
    keys: Sequence[str],
    array: Float[np.ndarray, "n d"],
    encoder: str,
    name: str = VISUAL,
) -> None:
    """``NAME.npy`` (fp32) and ``NAME.json`` (encoder, keys, checksum) in the shards' folder.

    Raises ValueError unless there is one row for each of the keys, which must differ.
    """
    if array.ndim != 2 or len(keys) != len(array) or len(set(keys)) != len(keys):
        raise ValueError(f"{name} {array.shape}: must be one row for each of {len(keys)} keys")
    file = Path(root) / f"{name}.npy"
    with atomic_path(file, suffix=".npy") as temporary:
        np.save(temporary, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
    facts = {"encoder": encoder, "keys": list(keys), "sha256": sha256_file(file)}
    write_json(Path(root) / f"{name}.json", facts)


def read_embeddings(root: Path | str, name: str = VISUAL) -> Embeddings | None:
    """None when there are none. Rows are mapped from the file, not read into memory.

    Raises ValueError when the two files do not belong together.
    """
    facts_file, file = Path(root) / f"{name}.json", Path(root) / f"{name}.npy"
    if not facts_file.is_file():
        return None
    facts = read_json(facts_file)
    if not file.is_file() or sha256_file(file) != facts["sha256"]:
        raise ValueError(f"{file}: is not the file that {facts_file.name} describes; remove both")
    vectors = np.load(file, allow_pickle=False, mmap_mode="r")
    if vectors.ndim != 2 or len(vectors) != len(facts["keys"]):
        raise ValueError(f"{file}: {vectors.shape}, but {len(facts['keys'])} keys; remove both")
    return Embeddings(keys=tuple(facts["keys"]), vectors=vectors, encoder=str(facts["encoder"]))


def first_video(index: ShardIndex, key: str) -> bytes:
    """The clip's encoded video; of several cameras the first by name."""
    member = min(name for name in index.members(key) if name.endswith("mp4"))
    return index.read(key, member)
