"""The manifest: one row for every record, kept or rejected, with all scores.

While a run goes, parts are appended under the work folder, for whoever wants to look; at the end
they give way to one ``manifest.parquet`` that also holds the decisions.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwfm.curation.record import Clip, Source, to_json
from openwfm.curation.storage import Folder
from openwfm.curation.work import MEASURED, PARTS, RESULT
from openwfm.data.manifest import COLUMNS

ADDED = (("weight", pa.float64()), ("evidence", pa.string()))
ROWS_IN_PART = 1024
PART = re.compile(r".*/part-(\d{6})\.parquet")


def clip_json(clip: Clip) -> dict[str, Any]:
    """What stands beside the video in a shard; ``caption`` and ``kind`` are what trainers read."""
    data = to_json(clip)
    del data["rejection"]
    data["caption"] = clip.captions[0].text if clip.captions else ""
    data["caption_source"] = clip.captions[0].source if clip.captions else ""
    data["kind"] = clip.provenance.get("kind", "natural")
    return data


def manifest(sources: Iterable[Source], clips: Iterable[Clip]) -> pa.Table:
    """Sources, then clips, by path and time. What a record lacks is null.

    Columns: `COLUMNS`, ``weight`` (kept clips), ``evidence`` (file in the output folder that holds
    what scores were derived from), and ``score_NAME`` for every score that a clip has.
    """
    clips = sorted(clips, key=lambda clip: (clip.path, clip.start_frame))
    sources = sorted(sources, key=lambda source: (source.path, source.id))
    rows = chain(map(_source_row, sources), map(_clip_row, clips))
    names = sorted({f"score_{name}" for clip in clips for name in clip.scores})
    schema = pa.schema([*COLUMNS, *ADDED, *((name, pa.float64()) for name in names)])
    parts = iter(lambda: list(islice(rows, ROWS_IN_PART)), [])  # as few Python rows at a time
    return pa.concat_tables(
        [schema.empty_table(), *(pa.Table.from_pylist(part, schema=schema) for part in parts)]
    ).combine_chunks()


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
    row = {name: data[name] for name, _ in COLUMNS if name in data}
    scores = {f"score_{name}": value for name, value in clip.scores.items()}
    decided = {"weight": clip.weight if clip.rejection is None else None}
    evidence = {"evidence": f".work/{MEASURED}/{clip.source}/{RESULT}"}
    name = {"record": "clip", "id": clip.id or clip.name}
    return {**row, **name, **decided, **evidence, **scores, **_verdict(clip)}


class ManifestParts:
    """Append-only parquet parts of what was measured; ``status`` is ``measured`` until decided.

    A part of another recipe is removed. Sources that earlier parts hold are not added again.
    """

    def __init__(self, folder: Folder, recipe: dict[str, Any]) -> None:
        identity = json.dumps(recipe, sort_keys=True).encode()
        self.name = f"{PARTS}/{hashlib.sha256(identity).hexdigest()[:16]}"
        self.folder = folder
        old = {name.split("/")[1] for name in folder.sizes(PARTS)}
        for other in old - {self.name.split("/")[1]}:
            folder.remove(f"{PARTS}/{other}")
        found = ((PART.fullmatch(name), name) for name in sorted(folder.sizes(self.name)))
        names = {int(match[1]): name for match, name in found if match}
        self._number = 1 + max(names, default=-1)
        self._held = {id for name in names.values() for id in _sources_of(folder.read(name))}
        self._sources: list[Source] = []
        self._clips: list[Clip] = []

    def add(self, source: Source, clips: Sequence[Clip] = ()) -> None:
        if source.id in self._held:
            return
        self._held.add(source.id)
        self._sources.append(source)
        self._clips += clips
        if len(self._sources) + len(self._clips) >= ROWS_IN_PART:
            self.flush()

    def flush(self) -> None:
        if not self._sources:
            return
        table = manifest(self._sources, self._clips)
        status = ["measured" if value == "kept" else value for value in table["status"].to_pylist()]
        at = table.column_names.index("status")
        table = table.set_column(at, "status", pa.array(status, pa.string()))
        self.folder.write(f"{self.name}/part-{self._number:06d}.parquet", parquet_bytes(table))
        self._number += 1
        self._sources, self._clips = [], []

    def remove(self) -> None:
        """The manifest holds it all now."""
        self.folder.remove(PARTS)


def parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _sources_of(part: bytes) -> list[str]:
    table = pq.read_table(io.BytesIO(part), columns=["record", "id"])
    return [row["id"] for row in table.to_pylist() if row["record"] == "source"]
