"""Shards on disk: WebDataset tars with an index that gives every member's place.

``index.json`` is written last, so a folder that has one is complete. Random access needs no scan:
a member is one ``pread`` at a known offset.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwfm.data.open_shard import OpenShard
from openwfm.files import atomic_path, read_json, sha256_file, write_json

SCHEMA = 1
INDEX, MANIFEST = "index.json", "manifest.parquet"

RESOLUTIONS = ((1080, "1080"), (720, "720"))
ASPECTS = ((0.65, "9_16"), (0.88, "3_4"), (1.16, "1_1"), (1.55, "4_3"))
DURATIONS = ((5.0, "0_5"), (10.0, "5_10"), (30.0, "10_30"))


def bucket(width: int, height: int, seconds: float) -> str:
    """Folder of a clip: shorter side, width over height, and duration (every clip has one)."""
    side, aspect = min(width, height), width / height
    resolution = next((name for least, name in RESOLUTIONS if side >= least), "lt_720")
    shape = next((name for below, name in ASPECTS if aspect < below), "16_9")
    duration = next((name for below, name in DURATIONS if seconds < below), "30_inf")
    return f"resolution_{resolution}/aspect_{shape}/duration_{duration}"


class ShardWriter:
    """Writes samples into tars by bucket; equal samples in equal order give equal bytes.

    Call `add` for each sample, then `finish`. Until then the folder has no index and does not open.
    One tar of each bucket is open, under a temporary name; no sample stays in memory.
    """

    def __init__(
        self, root: Path | str, *, max_samples: int = 512, max_bytes: int = 500_000_000
    ) -> None:
        self.root = Path(root)
        self.max_samples, self.max_bytes = max_samples, max_bytes
        self._open: dict[str, OpenShard] = {}
        self._counts: dict[str, int] = {}
        self._shards: list[dict[str, Any]] = []
        self._keys: set[str] = set()
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / INDEX).unlink(missing_ok=True)

    def add(self, folder: str, key: str, source: str, members: Mapping[str, bytes]) -> None:
        """Put a sample into a shard of ``folder`` (see `bucket`).

        Raises ValueError for a key that was written before or is no plain name.
        """
        if key in self._keys:
            raise ValueError(f"shard key {key}: written twice; keys are unique in a folder")
        if not key or "." in key or "/" in key:
            raise ValueError(f"shard key {key!r}: must be a name without dots and slashes")
        self._keys.add(key)
        size = sum(map(len, members.values()))
        shard = self._open.get(folder)
        if shard is not None and (
            len(shard.samples) >= self.max_samples or shard.size + size > self.max_bytes
        ):
            self._flush(folder)
            shard = None
        if shard is None:
            number = self._counts[folder] = self._counts.get(folder, -1) + 1
            shard = self._open[folder] = OpenShard(self.root, f"{folder}/shard-{number:06d}.tar")
        shard.write(key, source, members, size)

    def _flush(self, folder: str) -> None:
        self._shards.append(self._open.pop(folder).close())

    def finish(self, rows: pa.Table, fingerprint: str = "") -> None:
        """Write the manifest and then the index; remove tars of an earlier run."""
        for name in sorted(self._open):
            self._flush(name)
        with atomic_path(self.root / MANIFEST) as temporary:
            pq.write_table(rows, temporary, compression="zstd")
        self._shards.sort(key=lambda shard: shard["path"])
        index = {
            "schema": SCHEMA,
            "kind": "shards",
            "fingerprint": fingerprint,
            "manifest": {
                "path": MANIFEST,
                "rows": rows.num_rows,
                "sha256": sha256_file(self.root / MANIFEST),
            },
            "shards": self._shards,
        }
        kept = {shard["path"] for shard in self._shards}
        for file in self.root.glob("resolution_*/**/shard-*.tar"):
            if file.relative_to(self.root).as_posix() not in kept:
                file.unlink()
        write_json(self.root / INDEX, index)


@dataclass(frozen=True)
class _Place:
    shard: str
    source: str
    members: Mapping[str, tuple[int, int]]


class ShardIndex:
    """Random access to the samples of a finished folder; safe to use in forked workers."""

    def __init__(self, root: Path, index: Mapping[str, Any]) -> None:
        self.root = root
        self.fingerprint = str(index["fingerprint"])
        self.manifest_sha256 = str(index["manifest"]["sha256"])
        self._shards: list[dict[str, Any]] = list(index["shards"])
        self._samples: dict[str, _Place] = {
            sample["key"]: _Place(
                shard["path"],
                sample["source"],
                {name: (at, size) for name, (at, size) in sample["members"].items()},
            )
            for shard in self._shards
            for sample in shard["samples"]
        }
        self._files: dict[tuple[int, str], int] = {}

    @classmethod
    def open(cls, root: Path | str) -> ShardIndex:
        """Raises ValueError naming the file that is missing, truncated or of another schema."""
        root = Path(root)
        file = root / INDEX
        if not file.is_file():
            raise ValueError(f"{file}: no such file; `openwfm curate` writes it last")
        data = read_json(file)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"{file}: schema={found}: must be {SCHEMA}")
        try:
            index = cls(root, data)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: not a shard index ({error!r})") from error
        index._check_sizes()
        return index

    def _check_sizes(self) -> None:
        if not (self.root / MANIFEST).is_file():
            raise ValueError(f"{self.root / MANIFEST}: no such file, but {INDEX} names it")
        for shard in self._shards:
            file = self._inside(shard["path"])
            if not file.is_file():
                raise ValueError(f"{file}: no such file, but {INDEX} names it")
            size = file.stat().st_size
            if size != shard["bytes"]:
                raise ValueError(
                    f"{file}: {size} bytes, but {INDEX} says {shard['bytes']}; "
                    "the shard is truncated or was changed"
                )

    def _inside(self, path: str) -> Path:
        file = self.root / path
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ValueError(f"{self.root / INDEX}: {path}: leads out of the folder")
        return file

    @property
    def keys(self) -> list[str]:
        """Clip ids, sorted."""
        return sorted(self._samples)

    @property
    def sources(self) -> dict[str, str]:
        """Source id of every key: splits must keep the clips of a source together."""
        return {key: place.source for key, place in sorted(self._samples.items())}

    def __len__(self) -> int:
        return len(self._samples)

    def members(self, key: str) -> tuple[str, ...]:
        return tuple(sorted(self._place(key).members))

    def _place(self, key: str) -> _Place:
        if key not in self._samples:
            raise ValueError(f"{self.root}: no clip {key} among {len(self)}")
        return self._samples[key]

    def read(self, key: str, member: str) -> bytes:
        """Raises ValueError naming the clip or the file when the bytes are not there."""
        file, offset, size = self.locate(key, member)
        data = os.pread(self._descriptor(self._place(key).shard), size, offset)
        if len(data) != size:
            raise ValueError(f"{file}: truncated at clip {key}, {member}")
        return data

    def locate(self, key: str, member: str) -> tuple[Path, int, int]:
        """The shard that holds a member, and the member's offset and size there."""
        place = self._place(key)
        if member not in place.members:
            raise ValueError(f"clip {key}: has no {member}; it has {', '.join(self.members(key))}")
        offset, size = place.members[member]
        return self._inside(place.shard), offset, size

    def folder(self, key: str) -> str:
        """The clip's bucket (see `bucket`)."""
        return Path(self._place(key).shard).parent.as_posix()

    def _descriptor(self, shard: str) -> int:
        """One descriptor per process and shard."""
        at = (os.getpid(), shard)
        if at not in self._files:
            self._files[at] = os.open(self._inside(shard), os.O_RDONLY | os.O_CLOEXEC)
        return self._files[at]

    def close(self) -> None:
        for (process, _), descriptor in self._files.items():
            if process == os.getpid():
                os.close(descriptor)
        self._files.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Descriptors do not travel to another process."""
        return {**self.__dict__, "_files": {}}

    def metadata(self, key: str) -> dict[str, Any]:
        """The clip's JSON."""
        data = json.loads(self.read(key, "json"))
        assert isinstance(data, dict)
        return data

    def manifest(self) -> pa.Table:
        """One row per clip and per rejected record."""
        return pq.read_table(self.root / MANIFEST)

    def verify(self) -> None:
        """Read everything; raises ValueError naming the first file whose checksum is wrong."""
        files = [(self._inside(shard["path"]), shard["sha256"]) for shard in self._shards]
        _verify([*files, (self.root / MANIFEST, self.manifest_sha256)])


def _verify(files: Iterable[tuple[Path, str]]) -> None:
    for file, expected in files:
        found = sha256_file(file)
        if found != expected:
            raise ValueError(f"{file}: sha256 {found}, but {INDEX} says {expected}; it was changed")
