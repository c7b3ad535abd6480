"""The page of a search: each clip as a small video that plays, with its caption and its score."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch

from openwfm import page as html
from openwfm.curation.embeddings import first_video
from openwfm.curation.frames import small_rgb
from openwfm.data.shards import ShardIndex
from openwfm.files import write_text
from openwfm.video import video_bytes

SIDE, FRAMES = 144, 72  # of a thumbnail: its shorter side in pixels, and how many at most


@dataclass(frozen=True, kw_only=True)
class Hit:
    """``score``: a cosine; where captions and pictures are both compared with the words, the mean
    of the two after each was standardised over the folder. Larger is nearer."""

    key: str
    score: float
    caption: str
    path: str
    start_seconds: float


def write_contact_sheet(index: ShardIndex, query: str, hits: Sequence[Hit], out: Path) -> None:
    """One self-contained file. Captions are text, whatever stands in them."""
    shown = [
        html.ShownClip(
            caption=hit.caption or "(no caption)",
            mp4=thumbnail(first_video(index, hit.key)),
            note=f"{hit.score:.3f} · {hit.key} · {hit.path} at {hit.start_seconds:.1f} s",
        )
        for hit in hits
    ]
    body = "\n".join(
        (
            f"<h1>{escape(query)}</h1>",
            html.chips({"clips": len(index), "shown": len(hits), "shards": index.root}),
            html.videos(shown) if shown else html.paragraph("No clip to show.", "soft"),
        )
    )
    write_text(out, html.page(f"search: {query}", body))


def thumbnail(video: bytes) -> bytes:
    """The clip's first three seconds or so, at most 144 pixels on the shorter side, as mp4."""
    with av.open(io.BytesIO(video), "r") as container:
        stream = container.streams.video[0]
        factor = min(1.0, SIDE / min(stream.width, stream.height))
        width, height = (max(2, round(s * factor / 2) * 2) for s in (stream.width, stream.height))
        frames = list(islice(small_rgb(container.decode(stream), width, height), FRAMES))
        rate = float(stream.average_rate or 24)
    return video_bytes(torch.from_numpy(np.stack(frames)), rate)
