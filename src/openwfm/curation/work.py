"""Finished work on disk: one folder per source, whole or absent, so a killed run resumes."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
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
from openwfm.files import read_json, write_bytes, write_json

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A source, its clips, and what each stage counted."""

    source: Source
    clips: tuple[Clip, ...]
    accounts: dict[str, Account]


class WorkFolder:
    """``.work/<source id>/``: ``result.json``, and mp4, text and signature of each kept clip.

    ``recipe`` holds everything that the records depend on; work of another recipe is not reused.
    """

    def __init__(self, root: Path, recipe: dict[str, Any]) -> None:
        self.root = root
        self.recipe = recipe

    def is_done(self, source: Source) -> bool:
        file = self.root / source.id / RESULT
        if not file.is_file():
            return False
        done = read_json(file)
        return bool(done["recipe"] == self.recipe and done["source"]["path"] == source.path)

    def write(
        self, source: Source, records: Iterable[Record], accounts: dict[str, Account]
    ) -> None:
        """Consume records as they come (media is dropped after each), then rename into place."""
        draft = self.root / f".{source.id}.{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        finished: list[Record] = []
        for record in records:
            if isinstance(record, Clip) and record.rejection is None:
                self._write_media(draft, record)
            finished.append(record)
        first, *clips = finished
        assert isinstance(first, Source)
        write_json(
            draft / RESULT,
            {
                "recipe": self.recipe,
                "source": to_json(first),
                "clips": [to_json(clip) for clip in clips],
                "accounts": {name: asdict(account) for name, account in accounts.items()},
            },
        )
        shutil.rmtree(self.root / source.id, ignore_errors=True)
        os.replace(draft, self.root / source.id)

    @staticmethod
    def _write_media(folder: Path, clip: Clip) -> None:
        media = clip.media
        assert media is not None and media.text is not None and media.signature is not None
        write_bytes(folder / f"{clip.name}.mp4", media.video)
        write_bytes(folder / f"{clip.name}.text.npy", npy_bytes(media.text))
        write_bytes(folder / f"{clip.name}.signature.npy", npy_bytes(media.signature))

    def read(self, source: Source) -> Result:
        data = read_json(self.root / source.id / RESULT)
        return Result(
            source=source_from_json(data["source"]),
            clips=tuple(clip_from_json(clip) for clip in data["clips"]),
            accounts={name: Account(**counts) for name, counts in data["accounts"].items()},
        )

    def signature(self, clip: Clip) -> np.ndarray:
        file = self.root / clip.source / f"{clip.name}.signature.npy"
        return np.asarray(np.load(file, allow_pickle=False))

    def media(self, clip: Clip) -> Media:
        folder = self.root / clip.source
        return Media(
            video=(folder / f"{clip.name}.mp4").read_bytes(),
            text=np.load(folder / f"{clip.name}.text.npy", allow_pickle=False),
        )

    def sweep(self) -> None:
        """Remove drafts of processes that were killed."""
        for draft in self.root.glob(".*.*"):
            shutil.rmtree(draft, ignore_errors=True)


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
