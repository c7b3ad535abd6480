"""The last phase: kept clips into shards, one manifest row for every record."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openwfm.curation.embeddings import write_embeddings
from openwfm.curation.manifest import clip_json, manifest
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
    described = [[clip_json(clip), keys[clip.id]] for clip in kept]
    identity = [rows.to_pylist(), described, measured.recipe, captioned.recipe, max_samples]
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    present = _present(out, fingerprint)
    if present is not None:
        return present
    with _local(out) as root:
        writer = ShardWriter(root, max_samples=max_samples)
        for clip in kept:
            data = json.dumps(clip_json(clip), sort_keys=True, ensure_ascii=False).encode()
            members = {
                "mp4": measured.video(clip),
                "json": data,
                "text.npy": captioned.text(keys[clip.id]),
            }
            name = bucket(clip.width, clip.height, clip.num_frames / clip.fps)
            writer.add(name, clip.id, clip.source, members)
        _embeddings(root, measured, kept)
        writer.finish(rows, fingerprint)
        return Packed(num_clips=len(kept), manifest_sha256=sha256_file(root / MANIFEST))


def _embeddings(root: Path, measured: MeasuredWork, kept: Sequence[Clip]) -> None:
    """What search reads; nothing where no stage embeds clips."""
    arrays = [measured.array(clip, "embedding") for clip in kept]
    vectors = [array for array in arrays if array is not None]
    if len(vectors) == len(kept) and kept:
        encoder = str(kept[0].evidence["embed"]["encoder"])
        write_embeddings(root, [clip.id for clip in kept], np.stack(vectors), encoder)


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
