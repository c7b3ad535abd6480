"""Settings of a curation run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openwfm.curation.policy import PolicyConfig

# Raise when the code of a stage changes what it makes: finished work is then redone.
PIPELINE_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """What `curate_folder` reads.

    ``size`` is the side in pixels of the square clips; ``fps`` their constant frame rate; ``crf``
    the H.264 quality (0 to 51, lower is better); ``keyframe_interval`` in frames bounds what a
    random access decodes; ``threshold`` is the shot detector's.
    """

    source: str
    out: str
    policy: PolicyConfig
    workers: int = 2
    size: int = 64
    fps: float = 24.0
    crf: int = 12
    keyframe_interval: int = 12
    threshold: float = 0.4
    text_encoder: str = "minilm-l6-v2"
    max_shard_samples: int = 512

    def __post_init__(self) -> None:
        rules = (
            ("workers", self.workers >= 0, "at least 0 (0 and 1 run in this process)"),
            ("size", self.size >= 16 and self.size % 2 == 0, "even and at least 16"),
            ("fps", 0 < self.fps <= 240, "above 0 and at most 240"),
            ("crf", 0 <= self.crf <= 51, "in 0..51"),
            ("keyframe_interval", self.keyframe_interval >= 1, "at least 1"),
            ("threshold", 0 < self.threshold < 1, "between 0 and 1"),
            ("max_shard_samples", self.max_shard_samples >= 1, "at least 1"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"curation.{name}={getattr(self, name)}: must be {rule}")
        source, out = Path(self.source).resolve(), Path(self.out).resolve()
        if not source.is_dir():
            raise ValueError(f"curation.source={self.source}: no such folder")
        if source == out or source in out.parents or out in source.parents:
            raise ValueError(
                f"curation.out={self.out}: must lie outside curation.source={self.source} "
                "and not contain it (output would be read as input)"
            )

    def recipe(self) -> dict[str, Any]:
        """The settings that change the records; paths, workers and packing do not."""
        values = asdict(self)
        for name in ("source", "out", "workers", "max_shard_samples"):
            del values[name]
        return {"pipeline_version": PIPELINE_VERSION, **values}
