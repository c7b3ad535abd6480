"""The last phase: kept clips into shards, one manifest row for every record."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwfm.curation.embeddings import write_embeddings
from openwfm.curation.manifest import ROWS_IN_PART, clip_json, manifest
from openwfm.curation.phases import Captioned
from openwfm.curation.record import Clip, Source
from openwfm.curation.storage import LocalFolder, RemoteFolder
from openwfm.curation.work import CaptionedWork, MeasuredWork
from openwfm.data.shards import INDEX, MANIFEST, RESOLUTIONS, ShardWriter, bucket
from openwfm.files import sha256_file

SHARD = re.compile(r"resolution_\w+/aspect_\w+/duration_\w+/shard-\d{6}\.tar")
TEMPORARY = re.compile(r"\.(shard-\d{6}\.tar|manifest\.parquet|index\.json|report\.json)\.\w{8}")


@dataclass(frozen=True, kw_only=True)
class Packed:
    num_clips: int
    manifest_sha256: str


def pack(
    out: LocalFolder | RemoteFolder,
    measured: MeasuredWork,
    captioned: CaptionedWork,
    sources: Sequence[Source],
    clips: Captioned,
    max_samples: int,
) -> Packed:
    """Write shards, manifest and index, unless the folder holds exactly these already."""
    _sweep(out)
    rows, keys = manifest(sources, clips.clips), clips.keys
    kept = [clip for clip in clips.clips if clip.rejection is None]
    kept.sort(key=lambda clip: clip.id)
    fingerprint = _fingerprint(rows, kept, keys, [measured.recipe, captioned.recipe, max_samples])
    present = _present(out, fingerprint)
    if present is not None:
        return present
    with _local(out) as root:
        writer = ShardWriter(root, max_samples=max_samples)
        for clip in kept:
            full = replace(clip, evidence=captioned.read(keys[clip.id])[0].evidence)
            members = {
                "mp4": measured.video(clip),
                "json": _text(clip_json(full)),
                "text.npy": captioned.text(keys[clip.id]),
            }
            name = bucket(clip.width, clip.height, clip.num_frames / clip.fps)
            writer.add(name, clip.id, clip.source, members)
        _embeddings(root, measured, kept)
        writer.finish(rows, fingerprint)
        return Packed(num_clips=len(kept), manifest_sha256=sha256_file(root / MANIFEST))


def _fingerprint(
    rows: pa.Table, kept: Sequence[Clip], keys: Mapping[str, str], settings: list[Any]
) -> str:
    """Of all that the shards depend on. A clip's key stands for the evidence of its stages."""
    digest = hashlib.sha256(_text(settings))
    for batch in rows.to_batches(max_chunksize=ROWS_IN_PART):
        digest.update(_text(batch.to_pylist()))
    for clip in kept:
        digest.update(_text([clip_json(clip), keys[clip.id]]))
    return digest.hexdigest()


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def _embeddings(root: Path, measured: MeasuredWork, kept: Sequence[Clip]) -> None:
    """What search reads; nothing where no stage embeds clips. Gathered on disk."""
    first = measured.array(kept[0], "embedding") if kept else None
    if first is None:
        return
    encoder = str(measured.in_full(kept[0]).evidence["embed"]["encoder"])
    with tempfile.TemporaryDirectory(prefix="openwfm-embeddings-") as scratch:
        vectors = np.lib.format.open_memmap(
            Path(scratch, "all.npy"), mode="w+", dtype=np.float32, shape=(len(kept), len(first))
        )
        for row, clip in zip(vectors, kept, strict=True):
            row[:] = measured.array(clip, "embedding")
        write_embeddings(root, [clip.id for clip in kept], vectors, encoder)
        del vectors, row


def _present(out: LocalFolder | RemoteFolder, fingerprint: str) -> Packed | None:
    """None when absent, of other records, or damaged: then it is written anew."""
    try:
        index = json.loads(out.read(INDEX))
        manifest_sha256 = hashlib.sha256(out.read(MANIFEST)).hexdigest()
        if index["fingerprint"] != fingerprint or index["manifest"]["sha256"] != manifest_sha256:
            return None
        found = _shards(out)
        if any(found.get(shard["path"]) != shard["bytes"] for shard in index["shards"]):
            return None
        count = sum(len(shard["samples"]) for shard in index["shards"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return Packed(num_clips=count, manifest_sha256=manifest_sha256)


def _sweep(out: LocalFolder | RemoteFolder) -> None:
    """Remove what a run that was killed was writing."""
    if isinstance(out, LocalFolder):
        for pattern in (".*", "resolution_*/*/*/.*"):
            for file in out.root.glob(pattern):
                if TEMPORARY.fullmatch(file.name):
                    file.unlink(missing_ok=True)


def _shards(out: LocalFolder | RemoteFolder) -> dict[str, int]:
    folders = [f"resolution_{name}" for _, name in RESOLUTIONS] + ["resolution_lt_720"]
    sizes = (out.sizes(folder) for folder in folders)
    return {name: size for found in sizes for name, size in found.items() if SHARD.fullmatch(name)}


@contextmanager
def _local(out: LocalFolder | RemoteFolder) -> Iterator[Path]:
    """The output folder, or a local one whose files are uploaded when the block succeeds."""
    if isinstance(out, LocalFolder):
        yield out.root
        return
    with tempfile.TemporaryDirectory(prefix="openwfm-shards-") as scratch:
        root = Path(scratch)
        yield root
        out.remove(INDEX)  # until it is there again, the folder is not finished
        new = {file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()}
        for name in sorted(set(_shards(out)) - new):
            out.remove(name)
        for name in sorted(new - {INDEX}):
            out.upload(name, root / name)
        out.upload(INDEX, root / INDEX)
