"""One tar of samples while it is being written."""

from __future__ import annotations

import tarfile
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import webdataset

from openwfm.files import atomic_path, sha256_file


class OpenShard:
    """A tar that is being written beside its place. Dropped before `close`, it leaves nothing."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self.size = name, 0
        self.samples: list[tuple[str, str]] = []
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_path(root / name))
        self._inner = self._stack.enter_context(ExitStack())
        file = self._inner.enter_context(open(self._temporary, "wb"))  # noqa: SIM115
        self._tar = self._inner.enter_context(
            webdataset.TarWriter(file, encoder=False, mtime=0, user="openwfm", group="openwfm")
        )
        self._abandon = weakref.finalize(self, _abandon, self._stack)

    def write(self, key: str, source: str, members: Mapping[str, bytes], size: int) -> None:
        self._tar.write({"__key__": key, **members})
        self.samples.append((key, source))
        self.size += size

    def close(self) -> dict[str, Any]:
        """Moves the tar to its place; returns its entry in the index."""
        self._abandon.detach()
        with self._stack:
            self._inner.close()
            places = _places(self._temporary)
            return {
                "path": self.name,
                "bytes": self._temporary.stat().st_size,
                "sha256": sha256_file(self._temporary),
                "samples": [
                    {"key": key, "source": source, "members": places[key]}
                    for key, source in self.samples
                ],
            }


def _abandon(stack: ExitStack) -> None:
    """As an error inside `atomic_path` would: the temporary file goes, nothing is renamed."""
    with suppress(_AbandonedError), stack:
        raise _AbandonedError


class _AbandonedError(Exception):
    pass


def _places(file: Path) -> dict[str, dict[str, list[int]]]:
    """Offset and size of every member, by key."""
    places: dict[str, dict[str, list[int]]] = {}
    with tarfile.open(file) as tar:
        for item in tar:
            key, _, member = item.name.partition(".")
            places.setdefault(key, {})[member] = [item.offset_data, item.size]
    return places
