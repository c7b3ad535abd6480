"""Finished work on disk or in a store, each piece whole or absent, so a killed run resumes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from openwfm.curation.pipeline import Account
from openwfm.curation.record import (
    Clip,
    Media,
    Record,
    Source,
    clip_from_json,
    source_from_json,
    to_json,
)
from openwfm.curation.storage import Folder

RESULT = "result.json"
MEASURED, CAPTIONED, PARTS = "measured", "captioned", "manifest"
ARRAYS = ("signature", "embedding")
# What a caption may depend on is all of a clip but where it lies and what was decided about it.
UNSEEN = ("path", "weight", "rejection", "captions", "text_encoder")


@dataclass(frozen=True, kw_only=True)
class Result:
    """A source, its clips, and what each stage counted."""

    source: Source
    clips: tuple[Clip, ...]
    accounts: dict[str, Account]


class MeasuredWork:
    """``measured/<source id>/``: mp4 and arrays of each clip, then ``result.json``, written last.

    ``recipe`` holds everything that the records depend on; work of another recipe is not reused.
    """

    def __init__(self, folder: Folder, recipe: Mapping[str, Any]) -> None:
        self.folder, self.recipe = folder.below(MEASURED), dict(recipe)
        self._held: tuple[str, dict[str, dict[str, Any]]] | None = None

    def is_done(self, source: Source) -> bool:
        data = _json_or_none(self.folder, f"{source.id}/{RESULT}")
        if data is None or data["recipe"] != self.recipe or data["source"]["path"] != source.path:
            return False
        sizes = self.folder.sizes(source.id)  # a loss of power may leave files without bytes
        return all(sizes.get(f"{source.id}/{name}") == size for name, size in data["files"].items())

    def write(
        self, source: Source, records: Iterable[Record], accounts: dict[str, Account]
    ) -> None:
        """Consume records as they come; a clip's media is dropped after it is written."""
        self.folder.remove(f"{source.id}/{RESULT}")
        self.folder.remove(source.id)
        finished: list[Record] = []
        files: dict[str, int] = {}
        for record in records:
            if isinstance(record, Clip) and record.rejection is None:
                for name, data in _media_files(record):
                    self.folder.write(f"{source.id}/{name}", data)
                    files[name] = len(data)
            finished.append(record)
        first, *clips = finished
        assert isinstance(first, Source)
        result = {
            "recipe": self.recipe,
            "source": to_json(first),
            "clips": [to_json(clip) for clip in clips],
            "accounts": {name: asdict(account) for name, account in accounts.items()},
            "files": files,
        }
        self.folder.write(f"{source.id}/{RESULT}", _json_bytes(result))

    def read(self, source: Source) -> Result:
        """Clips in full, with their evidence."""
        data = json.loads(self.folder.read(f"{source.id}/{RESULT}"))
        return Result(
            source=source_from_json(data["source"]),
            clips=tuple(clip_from_json(clip) for clip in data["clips"]),
            accounts=_accounts(data),
        )

    def in_full(self, clip: Clip) -> Clip:
        """The clip with its evidence again. Asking for a source's clips in turn reads it once."""
        held = self._held
        if held is None or held[0] != clip.source:
            data = json.loads(self.folder.read(f"{clip.source}/{RESULT}"))
            clips = map(clip_from_json, data["clips"])
            held = self._held = clip.source, {one.name: one.evidence for one in clips}
        return replace(clip, evidence=held[1][clip.name])

    def evidence_file(self, clip: Clip) -> str:
        """Relative to the output folder's ``.work``."""
        return f"{MEASURED}/{clip.source}/{RESULT}"

    def video(self, clip: Clip) -> bytes:
        """Raises ValueError naming the file when its bytes are not those that were measured."""
        name = f"{clip.source}/{clip.name}.mp4"
        data = self.folder.read(name)
        if not hashlib.sha256(data).hexdigest().startswith(clip.id):
            raise ValueError(
                f"{self.folder.location}/{name}: changed since it was written; delete "
                f"{self.folder.location}/{clip.source} and run again"
            )
        return data

    def array(self, clip: Clip, kind: str) -> np.ndarray | None:
        """``signature`` or ``embedding``; None where no stage made one."""
        try:
            return _load(self.folder.read(f"{clip.source}/{clip.name}.{kind}.npy"))
        except FileNotFoundError:
            return None


class CaptionedWork:
    """``captioned/<clip id>/<key>/``: the text of a clip. Other keys of the clip stay.

    ``key`` hashes the recipe and what the stages can see, so any policy that keeps the clip
    finds its caption.
    """

    def __init__(self, folder: Folder, recipe: Mapping[str, Any]) -> None:
        self.folder, self.recipe = folder.below(CAPTIONED), dict(recipe)

    def key(self, clip: Clip, sidecar: bytes | None) -> str:
        seen = {name: value for name, value in to_json(clip).items() if name not in UNSEEN}
        beside = None if sidecar is None else hashlib.sha256(sidecar).hexdigest()
        text = json.dumps([self.recipe, seen, beside], sort_keys=True, ensure_ascii=False)
        return f"{clip.id}/{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:16]}"

    def is_done(self, key: str) -> bool:
        """A rejection does not count: what failed is tried again by the next run."""
        data = _json_or_none(self.folder, f"{key}/{RESULT}")
        if data is None or data["clip"]["rejection"] is not None:
            return False
        sizes = self.folder.sizes(key)
        return sizes.get(f"{key}/text.npy") == data["text_bytes"]

    def write(self, key: str, clip: Clip, accounts: dict[str, Account]) -> None:
        self.folder.remove(key)
        text = b""
        if clip.rejection is None:
            assert clip.media is not None and clip.media.text is not None
            text = npy_bytes(clip.media.text.astype(np.float16))
            self.folder.write(f"{key}/text.npy", text)
        counted = {name: asdict(account) for name, account in accounts.items()}
        result = {"clip": to_json(clip), "accounts": counted, "text_bytes": len(text)}
        self.folder.write(f"{key}/{RESULT}", _json_bytes(result))

    def read(self, key: str) -> tuple[Clip, dict[str, Account]]:
        data = json.loads(self.folder.read(f"{key}/{RESULT}"))
        return clip_from_json(data["clip"]), _accounts(data)

    def text(self, key: str) -> bytes:
        """The npy of token embeddings, fp16 ``n d``."""
        return self.folder.read(f"{key}/text.npy")


def _media_files(clip: Clip) -> Iterable[tuple[str, bytes]]:
    media = clip.media
    assert isinstance(media, Media)
    yield f"{clip.name}.mp4", media.video
    for kind in ARRAYS:
        array = getattr(media, kind)
        if array is not None:
            yield f"{clip.name}.{kind}.npy", npy_bytes(array)


def _accounts(data: Mapping[str, Any]) -> dict[str, Account]:
    return {name: Account(**counts) for name, counts in data["accounts"].items()}


def _json_or_none(folder: Folder, name: str) -> dict[str, Any] | None:
    """None when absent or, after a loss of power, damaged."""
    try:
        data = json.loads(folder.read(name))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _load(data: bytes) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
