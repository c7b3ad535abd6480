"""What the page of a curation run shows, read from its output folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from openwfm.data.shards import MANIFEST, ShardIndex
from openwfm.data.windows import decode_clip
from openwfm.files import read_json
from openwfm.video import png_bytes, strip

REPORT, WORK = "report.json", ".work/measured"
SCORE = "score_"
PICTURE_SIDE, PICTURE_FRAMES = 96, 4

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Frames of a clip side by side (PNG; None when its file is gone), and what to say."""

    png: bytes | None
    title: str
    note: str


@dataclass(frozen=True, kw_only=True)
class CurationInputs:
    """``scores`` are (values of kept clips, of rejected ones) by name; ``thresholds`` the policy's
    limits by score; ``rejected`` pictures by reason; ``duplicates`` (kept, dropped)."""

    title: str
    report: Mapping[str, Any]
    num_rejected: Mapping[str, int]
    scores: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    thresholds: Mapping[str, Sequence[float]]
    kept: Sequence[Picture]
    rejected: Mapping[str, Sequence[Picture]]
    duplicates: Sequence[tuple[Picture, Picture]]
    tags: Sequence[tuple[str, int]]


def is_curation(folder: Path) -> bool:
    """Whether ``openwfm curate`` wrote this folder."""
    return (folder / REPORT).is_file() and (folder / MANIFEST).is_file()


def read_curation(folder: Path, num_clips: int) -> CurationInputs:
    """At most ``num_clips`` pictures of the kept clips, of each reason, and of duplicates.

    Raises ValueError for a folder that is no finished run of ``openwfm curate``.
    """
    if not is_curation(folder):
        raise ValueError(f"{folder}: has no {REPORT} and {MANIFEST}; openwfm curate writes them")
    rows = pq.read_table(folder / MANIFEST).to_pylist()
    clips = [row for row in rows if row["record"] == "clip"]
    report = read_json(folder / REPORT)
    pictures = _Pictures(folder)
    by_reason: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "rejected":
            by_reason.setdefault(row["reason"], []).append(row)
    copies = by_reason.pop("duplicate", [])
    kept = [row for row in clips if row["status"] == "kept"]
    inputs = CurationInputs(
        title=folder.resolve().name,
        report=report,
        num_rejected={name: len(of) for name, of in (by_reason | {"duplicate": copies}).items()},
        scores=_scores(clips),
        thresholds=_thresholds(report.get("policy") or {}),
        kept=[pictures.of(row) for row in _spread(kept, num_clips)],
        rejected={
            reason: [pictures.of(row) for row in _spread(of, num_clips)]
            for reason, of in sorted(by_reason.items(), key=lambda item: -len(item[1]))
        },
        duplicates=list(_duplicates(pictures, kept, _spread(copies, num_clips))),
        tags=_tags(kept),
    )
    pictures.close()
    return inputs


def _scores(clips: Sequence[Row]) -> dict[str, tuple[list[float], list[float]]]:
    names = sorted({name for row in clips for name in row if name.startswith(SCORE)})
    found = {}
    for name in names:
        groups: tuple[list[float], list[float]] = ([], [])
        for row in clips:
            value = row[name]
            if value is not None and np.isfinite(value):
                groups[row["status"] != "kept"].append(float(value))
        if any(groups):
            found[name.removeprefix(SCORE)] = groups
    return found


def _thresholds(policy: Mapping[str, Any]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for rule in (policy.get("rules") or {}).values():
        limits = [rule[name] for name in ("min", "max") if rule.get(name) is not None]
        found.setdefault(rule["score"], []).extend(limits)
    return found


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Evenly over the list, which is ordered by file and time."""
    at = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[i] for i in at]


def _tags(kept: Sequence[Row]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for row in kept:
        for tag in row["tags"] or ():
            counts[tag] = counts.get(tag, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _duplicates(
    pictures: _Pictures, kept: Sequence[Row], copies: Sequence[Row]
) -> Iterator[tuple[Picture, Picture]]:
    """A detail names the id of the clip that stayed."""
    by_id = {row["id"]: row for row in kept}
    for copy in copies:
        words = copy["detail"].split()
        original = next((by_id[word] for word in words if word in by_id), None)
        if original is not None:
            yield pictures.of(original), pictures.of(copy)


class _Pictures:
    """Frames of clips: kept ones lie in the shards, rejected ones among the finished work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = ShardIndex.open(folder)
        self.keys = set(self.index.keys)

    def of(self, row: Row) -> Picture:
        note = str(row["detail"] or row["caption"] or "")
        if row["start_seconds"] is None or row["record"] == "source":
            return Picture(png=None, title=row["path"], note=note)
        span = f"{row['start_seconds']:.1f} to {row['end_seconds']:.1f} s"
        return Picture(png=self._png(row), title=f"{row['path']}, {span}", note=note)

    def _png(self, row: Row) -> bytes | None:
        name = f"{row['source']}-{row['start_frame']:07d}-{row['end_frame']:07d}.mp4"
        file = self.folder / WORK / row["source"] / name
        try:
            if row["id"] in self.keys:
                data = self.index.read(row["id"], "mp4")
            else:
                data = file.read_bytes()
        except (OSError, ValueError):
            return None
        return png_bytes(contact(torch.from_numpy(decode_clip(data, name))))

    def close(self) -> None:
        self.index.close()


def contact(video: UInt8[Tensor, "t h w c"]) -> UInt8[Tensor, "h w c"]:
    """Four frames, evenly spread, in a row of pictures of equal height."""
    at = torch.linspace(0, len(video) - 1, min(PICTURE_FRAMES, len(video))).round().long()
    frames = video[at].permute(0, 3, 1, 2).float()
    height, width = frames.shape[2:]
    size = PICTURE_SIDE, max(1, round(width * PICTURE_SIDE / height))
    if height > PICTURE_SIDE:
        frames = F.interpolate(frames, size, mode="area")
    return strip(frames.round().byte().permute(0, 2, 3, 1))
