"""Several folders of shards as one set of clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openwfm.data.shards import ShardIndex


class ShardSet:
    """Random access to the clips of one or more finished folders.

    ``root`` is the first folder: what is derived from the set is cached there.
    """

    def __init__(self, indexes: Sequence[ShardIndex]) -> None:
        self.indexes = tuple(indexes)
        self.root = self.indexes[0].root
        self._owner: dict[str, ShardIndex] = {}
        for index in self.indexes:
            for key in index.keys:
                if key in self._owner:
                    raise ValueError(
                        f"data.shards: clip {key} is in {self._owner[key].root} and in "
                        f"{index.root}; folders must not share clips"
                    )
                self._owner[key] = index

    @classmethod
    def open(cls, folders: Sequence[str]) -> ShardSet:
        """Raises ValueError for a folder that does not open, or that shares clips with another."""
        return cls([ShardIndex.open(Path(folder)) for folder in folders])

    @property
    def manifest_sha256(self) -> str:
        """That of a single folder, or a hash of all."""
        hashes = [index.manifest_sha256 for index in self.indexes]
        return (
            hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()
        )

    @property
    def keys(self) -> list[str]:
        """Clip ids, sorted."""
        return sorted(self._owner)

    def __len__(self) -> int:
        return len(self._owner)

    def _of(self, key: str) -> ShardIndex:
        if key not in self._owner:
            raise ValueError(f"{self.root}: no clip {key} among {len(self)}")
        return self._owner[key]

    def members(self, key: str) -> tuple[str, ...]:
        return self._of(key).members(key)

    def read(self, key: str, member: str) -> bytes:
        return self._of(key).read(key, member)

    def folder(self, key: str) -> str:
        return self._of(key).folder(key)

    def metadata(self, key: str) -> dict[str, Any]:
        return self._of(key).metadata(key)
