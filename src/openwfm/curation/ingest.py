"""Which files of a folder or bucket are sources, who each one is, and how a worker gets it."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from openwfm.curation.record import Rejection, Source
from openwfm.curation.storage import LocalFolder, RemoteFolder, open_folder
from openwfm.files import sha256_file

ID_LENGTH = 20


def find_sources(location: Path | str) -> Iterator[Source]:
    """Every file but hidden ones and JSON sidecars, in path order, with rejections.

    On disk, a source's id hashes its bytes. In a store it hashes the checksum that the store
    keeps (or, where it keeps none, path, size and time), so nothing is downloaded to know it.
    A file that another path already gave is rejected; so is one that cannot be read, that is no
    plain file, or that a link takes out of the folder. Links to folders are not followed.
    """
    folder = open_folder(str(location))
    found = _local(folder.root) if isinstance(folder, LocalFolder) else _remote(folder)
    seen: dict[str, str] = {}
    for source in found:
        if source.rejection is None and source.id in seen:
            yield _refused(source.path, "duplicate_file", f"the same bytes as {seen[source.id]}")
            continue
        seen.setdefault(source.id, source.path)
        yield source


def _local(root: Path) -> Iterator[Source]:
    root = root.resolve()
    for file in sorted(_files(root)):
        path = os.fsencode(file.relative_to(root)).decode(errors="replace")
        real = os.path.realpath(file)  # Path.resolve raises where links go in circles
        if not Path(real).is_relative_to(root):
            yield _refused(path, "outside", "a link that leads out of the input folder")
            continue
        try:
            facts = file.stat()
            if not stat.S_ISREG(facts.st_mode):
                yield _refused(path, "not_a_file", "a pipe, socket or device")
                continue
            digest = sha256_file(file)
        except OSError as error:
            yield _refused(path, "unreadable", error.strerror or type(error).__name__)
            continue
        yield Source(id=digest[:ID_LENGTH], path=path, num_bytes=facts.st_size, file=file)


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if _is_wanted(name):
                yield Path(folder, name)


def _remote(folder: RemoteFolder) -> Iterator[Source]:
    for path, info in folder.listing():
        parts = path.split("/")
        if not _is_wanted(parts[-1]) or any(part.startswith(".") for part in parts[:-1]):
            continue
        size = int(info.get("size") or 0)
        identity = hashlib.sha256(_identity(path, size, info).encode()).hexdigest()
        yield Source(id=identity[:ID_LENGTH], path=path, num_bytes=size)


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(".json")


def _identity(path: str, size: int, info: dict[str, Any]) -> str:
    for name in ("md5Hash", "ETag", "content_md5"):
        if info.get(name):
            return f"{name}:{info[name]}:{size}"
    times = (info.get(name) for name in ("LastModified", "mtime", "created"))
    return f"path:{path}:{size}:{next((time for time in times if time), '')}"


def _refused(path: str, reason: str, detail: str) -> Source:
    """Its id hashes the path, since its bytes are unknown or taken."""
    return Source(
        id=hashlib.sha256(f"path:{path}".encode()).hexdigest()[:ID_LENGTH],
        path=path,
        num_bytes=0,
        rejection=Rejection(stage="ingest", reason=reason, detail=detail),
    )


@contextmanager
def at_hand(location: str, source: Source, *, video: bool = True) -> Iterator[Source]:
    """The source with ``file`` set: as it lies on disk, or downloaded while the block runs.

    The sidecar comes along; with ``video=False`` it comes alone. Raises OSError when the store
    does not give the file.
    """
    folder = open_folder(location)
    if isinstance(folder, LocalFolder):
        yield source if source.file is not None else replace(source, file=folder.root / source.path)
        return
    with tempfile.TemporaryDirectory(prefix="openwfm-curate-") as scratch:
        file = Path(scratch, PurePosixPath(source.path).name)
        if file.parent != Path(scratch) or file.name in ("", ".", ".."):
            raise OSError(f"{source.path}: not a file name")
        if video:
            folder.fetch(source.path, file)
        sidecar = sidecar_bytes(folder, source)
        if sidecar is not None:
            file.with_suffix(".json").write_bytes(sidecar)
        yield replace(source, file=file)


def sidecar_bytes(folder: LocalFolder | RemoteFolder, source: Source) -> bytes | None:
    """Of ``NAME.json`` beside the video; None when there is none or it cannot be read."""
    try:
        return folder.read(PurePosixPath(source.path).with_suffix(".json").as_posix())
    except (OSError, ValueError):
        return None
