"""Which files of a folder are sources, and who each one is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from openwfm.curation.record import Rejection, Source
from openwfm.files import sha256_file

ID_LENGTH = 20


def find_sources(root: Path) -> Iterator[Source]:
    """Every file but hidden ones and JSON sidecars, in path order, with rejections.

    A file that another path already gave byte for byte is rejected; so is one that cannot be read
    or that a link takes out of the folder. Links to folders are not followed.
    """
    root = root.resolve()
    seen: dict[str, str] = {}
    for file in sorted(_files(root)):
        path = file.relative_to(root).as_posix()
        if not file.resolve().is_relative_to(root):
            yield _refused(path, "outside", "a link that leads out of the input folder")
            continue
        try:
            digest, size = sha256_file(file), file.stat().st_size
        except OSError as error:
            yield _refused(path, "unreadable", error.strerror or type(error).__name__)
            continue
        identity = digest[:ID_LENGTH]
        if identity in seen:
            yield _refused(path, "duplicate_file", f"the same bytes as {seen[identity]}")
            continue
        seen[identity] = path
        yield Source(id=identity, path=path, num_bytes=size, file=file)


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and not name.endswith(".json"):
                yield Path(folder, name)


def _refused(path: str, reason: str, detail: str) -> Source:
    """Its id hashes the path, since its bytes are unknown or taken."""
    identity = hashlib.sha256(f"path:{path}".encode(errors="surrogateescape")).hexdigest()
    return Source(
        id=identity[:ID_LENGTH],
        path=path.encode(errors="surrogateescape").decode(errors="replace"),
        num_bytes=0,
        rejection=Rejection(stage="ingest", reason=reason, detail=detail),
    )
