"""Folders on disk or in an object store, with the few operations that curation needs.

Whatever is written appears whole or not at all: on disk by renaming, in a store because objects do.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from openwfm.extras import MissingExtraError, require
from openwfm.files import write_bytes


class Folder(Protocol):
    """Names are relative, with slashes. Instances travel to workers."""

    @property
    def location(self) -> str: ...

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""

    def write(self, name: str, data: bytes) -> None: ...

    def upload(self, name: str, file: Path) -> None: ...

    def exists(self, name: str) -> bool: ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of every file below the folder ``prefix``, by name; empty when there is none."""

    def children(self) -> list[str]:
        """Names of the files and folders directly inside."""

    def remove(self, prefix: str) -> None:
        """A file or a whole folder; absent is fine."""

    def below(self, name: str) -> Folder: ...


@dataclass(frozen=True)
class LocalFolder:
    root: Path

    @property
    def location(self) -> str:
        return str(self.root)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        write_bytes(self.root / name, data)

    def upload(self, name: str, file: Path) -> None:
        self.write(name, file.read_bytes())

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def sizes(self, prefix: str) -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self.root / prefix):
            for name in names:
                file = Path(folder, name)
                found[file.relative_to(self.root).as_posix()] = file.stat().st_size
        return found

    def children(self) -> list[str]:
        return sorted(os.listdir(self.root)) if self.root.is_dir() else []

    def remove(self, prefix: str) -> None:
        path = self.root / prefix
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def below(self, name: str) -> LocalFolder:
        return LocalFolder(self.root / name)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of any fsspec file system, named by its URL."""

    url: str

    @property
    def location(self) -> str:
        return self.url

    def _at(self, name: str) -> tuple[Any, str]:
        """The file system (fsspec keeps one a process) and the full path of ``name``."""
        fsspec = require("fsspec", extra="curation")
        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise MissingExtraError(f'{self.url}: {error}: pip install "openwfm[cloud]"') from error
        return system, f"{root.rstrip('/')}/{name}".rstrip("/")

    def read(self, name: str) -> bytes:
        system, path = self._at(name)
        return bytes(system.cat_file(path))

    def write(self, name: str, data: bytes) -> None:
        system, path = self._at(name)
        system.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        system.pipe_file(path, data)

    def upload(self, name: str, file: Path) -> None:
        system, path = self._at(name)
        system.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        system.put_file(str(file), path)

    def fetch(self, name: str, file: Path) -> None:
        """Download to a local file, in pieces. Raises FileNotFoundError."""
        system, path = self._at(name)
        system.get_file(path, str(file))

    def exists(self, name: str) -> bool:
        system, path = self._at(name)
        return bool(system.isfile(path))

    def sizes(self, prefix: str) -> dict[str, int]:
        return {name: int(info.get("size") or 0) for name, info in self.listing(prefix)}

    def listing(self, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and the store's own facts of every object below ``prefix``, sorted by name."""
        system, base = self._at(prefix)
        root = self._at("")[1]
        system.invalidate_cache()  # another process may have written
        for path, info in sorted(system.find(base, detail=True).items()):
            yield path[len(root) :].lstrip("/"), info

    def children(self) -> list[str]:
        system, path = self._at("")
        system.invalidate_cache()
        if not system.isdir(path):
            return []
        found = system.ls(path, detail=False)
        return sorted(PurePosixPath(name).name for name in found)

    def remove(self, prefix: str) -> None:
        system, path = self._at(prefix)
        system.invalidate_cache()
        if system.exists(path):
            system.rm(path, recursive=True)

    def below(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url.rstrip('/')}/{name}")


def is_remote(location: str) -> bool:
    """Whether it is a URL of a store; paths and ``file://`` are local."""
    return "://" in location and not location.startswith(("file://", "local://"))


def local_path(location: str) -> Path:
    """Of a path or a ``file://`` URL, absolute."""
    return Path(location.removeprefix("file://").removeprefix("local://")).absolute()


def open_folder(location: str) -> LocalFolder | RemoteFolder:
    """Raises MissingExtraError when the URL's file system is not installed."""
    if not is_remote(location):
        return LocalFolder(local_path(location))
    folder = RemoteFolder(location)
    folder.exists("")  # names a missing library before any work is done
    return folder
