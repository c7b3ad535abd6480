"""The records that travel through curation: a raw video and the clips cut from it.

A record that fails is never dropped: it carries a `Rejection` to the manifest.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from openwfm.curation.look import Look

SCHEMA = 1


class RejectedError(ValueError):
    """A stage cannot use its record: ``reason`` is one word for counting, ``detail`` says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class StopRunError(RuntimeError):
    """What every record would meet, so the run stops; finished work is kept."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    stage: str
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What the container says, checked against its packets and its first decoded frame.

    ``width`` and ``height`` are stored pixels before ``rotation`` (degrees counter-clockwise, one
    of 0, 90, 180, 270); ``pixel_aspect`` is the width of a pixel over its height.
    """

    width: int
    height: int
    fps: float
    num_frames: int
    seconds: float
    codec: str
    pixel_format: str
    rotation: int
    pixel_aspect: float
    variable_fps: bool


@dataclass(frozen=True, kw_only=True)
class Transition:
    """Frames ``start`` to ``end`` (exclusive) belong to no shot; ``cut`` starts the new shot."""

    start: int
    end: int
    cut: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Source:
    """A raw video. ``id`` is a hash of its bytes; ``path`` is relative to the input folder."""

    id: str
    path: str
    num_bytes: int
    facts: VideoFacts | None = None
    transitions: tuple[Transition, ...] = ()
    rejection: Rejection | None = None
    file: Path | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Caption:
    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Media:
    """What a clip weighs while it is in memory; never part of the JSON.

    ``text`` is fp16 ``n d``; ``signature`` a grey 8×8 thumbnail of every frame, uint8 ``t 64``;
    ``look`` the pictures that stages measure; ``embedding`` a unit fp32 vector ``d``.
    """

    video: bytes
    text: np.ndarray | None = None
    signature: np.ndarray | None = None
    look: Look | None = None
    embedding: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A shot of a source, or a part of one. ``id`` hashes the encoded bytes ('' before encoding).

    Frames count in the source, ``end_frame`` exclusive; seconds are the source's own clock.
    ``evidence`` holds what scores were derived from, by stage name: plain JSON, a few kB.
    ``weight`` is how often a sampler should draw the clip, relative to others; the policy sets it.
    """

    source: str
    path: str
    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float
    id: str = ""
    fps: float = 0.0
    width: int = 0
    height: int = 0
    num_frames: int = 0
    num_bytes: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    captions: tuple[Caption, ...] = ()
    text_encoder: str = ""
    provenance: dict[str, str] = field(default_factory=dict)
    weight: float = 1.0
    rejection: Rejection | None = None
    origin: Source | None = field(default=None, repr=False, compare=False)
    media: Media | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Unique among clips, before and after encoding."""
        return f"{self.source}-{self.start_frame:07d}-{self.end_frame:07d}"

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds


Record = Source | Clip


def slim(clip: Clip) -> Clip:
    """Without evidence (nine tenths of what a clip weighs in memory), repeated words shared."""
    return replace(
        clip,
        source=sys.intern(clip.source),
        path=sys.intern(clip.path),
        scores={sys.intern(name): value for name, value in clip.scores.items()},
        tags=tuple(map(sys.intern, clip.tags)),
        evidence={},
    )


_IN_MEMORY = ("file", "origin", "media")


def to_json(record: Record) -> dict[str, Any]:
    """JSON form; what lives only in memory is left out."""
    kept = {
        item.name: getattr(record, item.name)
        for item in fields(record)
        if item.name not in _IN_MEMORY
    }
    plain: dict[str, Any] = {name: _plain(value) for name, value in kept.items()}
    return {"schema": SCHEMA, **plain}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Rejection | VideoFacts | Transition | Caption):
        return asdict(value)
    return value


def source_from_json(data: dict[str, Any]) -> Source:
    values = _values(data)
    facts = values.pop("facts")
    return Source(
        **values | {"transitions": tuple(Transition(**item) for item in values["transitions"])},
        facts=VideoFacts(**facts) if facts else None,
    )


def clip_from_json(data: dict[str, Any]) -> Clip:
    values = _values(data)
    captions = tuple(Caption(**item) for item in values["captions"])
    return Clip(**values | {"captions": captions, "tags": tuple(values["tags"])})


def _values(data: dict[str, Any]) -> dict[str, Any]:
    values = dict(data)
    schema = values.pop("schema", None)
    if schema != SCHEMA:
        raise ValueError(f"record.schema={schema}: must be {SCHEMA}")
    rejection = values["rejection"]
    return values | {"rejection": Rejection(**rejection) if rejection else None}
