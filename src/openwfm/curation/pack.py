"""The last step: duplicates out, kept clips into shards, one manifest row for every record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwfm.curation.config import CurationConfig
from openwfm.curation.dedup import find_duplicates
from openwfm.curation.pipeline import Account
from openwfm.curation.record import Clip, Rejection, Source, to_json
from openwfm.curation.work import WorkFolder, npy_bytes
from openwfm.data.manifest import COLUMNS
from openwfm.data.shards import ShardIndex, ShardWriter, bucket
from openwfm.files import sha256_file

STAGE = "dedup"


def drop_duplicates(
    clips: Sequence[Clip], work: WorkFolder, distance: float
) -> tuple[list[Clip], Account]:
    """Reject each kept clip that repeats an earlier one (by source path, then time)."""
    kept = sorted(
        (position for position, clip in enumerate(clips) if clip.rejection is None),
        key=lambda position: (clips[position].path, clips[position].start_frame),
    )
    found = find_duplicates([work.signature(clips[position]) for position in kept], distance)
    account = Account(received=len(kept), passed=len(kept) - len(found))
    result = list(clips)
    for later, earlier in found.items():
        original = clips[kept[earlier]]
        account.reject("duplicate")
        result[kept[later]] = replace(
            clips[kept[later]],
            rejection=Rejection(
                stage=STAGE,
                reason="duplicate",
                detail=f"repeats {original.id} ({original.path}, frame {original.start_frame})",
            ),
        )
    account.check(STAGE)
    return result, account


def clip_json(clip: Clip) -> dict[str, Any]:
    """What stands beside the video in a shard; ``caption`` and ``kind`` are what trainers read."""
    data = to_json(clip)
    del data["rejection"]
    data["caption"] = clip.captions[0].text if clip.captions else ""
    data["caption_source"] = clip.captions[0].source if clip.captions else ""
    data["kind"] = clip.provenance.get("kind", "natural")
    return data


def manifest(sources: Sequence[Source], clips: Sequence[Clip]) -> pa.Table:
    """One row per record; columns of a source that a clip lacks are null, and the reverse."""
    rows = [_source_row(source) for source in sorted(sources, key=lambda s: s.path)]
    rows += [_clip_row(clip) for clip in sorted(clips, key=lambda c: (c.path, c.start_frame))]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


SCORES = (
    "frozen", "moving", "change_mean", "flow_mean", "flow_p95", "camera_x", "camera_y",
    "camera_zoom", "camera_shake", "luma_mean", "luma_p95", "contrast", "hue", "saturation",
)  # fmt: skip

MANIFEST_SCHEMA = pa.schema([*COLUMNS, *((f"score_{name}", pa.float64()) for name in SCORES)])


def _verdict(record: Source | Clip) -> dict[str, Any]:
    rejection = record.rejection
    if rejection is None:
        return {"status": "kept"}
    return {
        "status": "rejected",
        "stage": rejection.stage,
        "reason": rejection.reason,
        "detail": rejection.detail,
    }


def _source_row(source: Source) -> dict[str, Any]:
    row = {
        "record": "source", "id": source.id, "source": source.id, "path": source.path,
        "num_bytes": source.num_bytes, "num_transitions": len(source.transitions),
        **_verdict(source),
    }  # fmt: skip
    if source.facts is not None:
        names = ("fps", "width", "height", "num_frames", "codec", "pixel_format")
        row |= {name: getattr(source.facts, name) for name in names}
        row |= {"start_seconds": 0.0, "end_seconds": source.facts.seconds}
    return row


def _clip_row(clip: Clip) -> dict[str, Any]:
    data = clip_json(clip)
    row = {name: data[name] for name in MANIFEST_SCHEMA.names if name in data}
    scores = {f"score_{name}": value for name, value in clip.scores.items()}
    return {**row, "record": "clip", "id": clip.id or clip.name, **scores, **_verdict(clip)}


def pack(
    config: CurationConfig, work: WorkFolder, sources: Sequence[Source], clips: Sequence[Clip]
) -> ShardIndex:
    """Write shards, manifest and index, unless the folder holds exactly these already."""
    root = Path(config.out)
    rows = manifest(sources, clips)
    kept = sorted((clip for clip in clips if clip.rejection is None), key=lambda clip: clip.id)
    identity = json.dumps([rows.to_pylist(), work.recipe, config.max_shard_samples], sort_keys=True)
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    present = _present(root, fingerprint)
    if present is not None:
        return present
    writer = ShardWriter(root, max_samples=config.max_shard_samples)
    for clip in kept:
        media = work.media(clip)
        assert media.text is not None
        members = {
            "mp4": media.video,
            "json": json.dumps(clip_json(clip), sort_keys=True, ensure_ascii=False).encode(),
            "text.npy": npy_bytes(media.text.astype(np.float16)),
        }
        name = bucket(clip.width, clip.height, clip.num_frames / clip.fps)
        writer.add(name, clip.id, clip.source, members)
    writer.finish(rows, fingerprint)
    return ShardIndex.open(root)


def _present(root: Path, fingerprint: str) -> ShardIndex | None:
    try:
        index = ShardIndex.open(root)
    except ValueError:
        return None  # absent, of another schema, or damaged: written anew
    same = index.fingerprint == fingerprint
    return (
        index if same and sha256_file(root / "manifest.parquet") == index.manifest_sha256 else None
    )
