"""Settings of a curation run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

from openwfm.curation.aesthetic import AestheticConfig
from openwfm.curation.captioner import CaptionerConfig, RewriteConfig
from openwfm.curation.features import EfficientNetConfig, EncoderConfig
from openwfm.curation.motion import SOURCES
from openwfm.curation.policy import PolicyConfig
from openwfm.curation.storage import is_remote, local_path
from openwfm.curation.transcode import CODECS
from openwfm.curation.vlm import VlmFilterConfig

# Raise when the code of a stage changes what it makes: finished work is then redone.
MEASURE_VERSION = 6
CAPTION_VERSION = 2

ASPECTS = ("square", "keep")
ENGINES = ("local", "ray")
MAX_DURATION = 600.0


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """What `curate_folder` reads. ``source`` and ``out`` are folders or fsspec URLs.

    What shapes the clips: ``size`` is their shorter side in pixels; ``aspect`` makes them
    ``square`` or lets them ``keep`` the nearest of the usual shapes; ``fps`` is their constant
    frame rate; ``codec`` writes H.264: ``libx264``, or ``h264_nvenc`` on an NVIDIA card (its bytes
    differ by card and driver); ``crf`` is the quality (0 to 51, lower is better);
    ``keyframe_interval`` in frames bounds what a random access decodes; ``threshold`` is the shot
    detector's. Shots over ``max_seconds`` are divided, shots under ``min_shot_seconds`` are not
    even measured.

    What is measured: ``motion`` by optical ``flow`` or the codec's ``vectors``; ``overlay`` looks
    for text laid over the film; ``encoder`` embeds clips, for content types, search and near
    duplicates; ``aesthetic`` and ``vlm`` are optional models. ``caption`` and ``rewrite`` say how
    captions are made.

    ``policy`` decides which clips are kept; another policy redoes no measurement. ``engine`` is
    ``local`` (processes) or ``ray`` (Ray Data, on the cluster at ``ray_address`` or one of this
    machine's own).
    """

    source: str
    out: str
    policy: PolicyConfig
    engine: str = "local"
    workers: int = 2
    ray_address: str | None = None
    size: int = 64
    aspect: str = "square"
    fps: float = 24.0
    codec: str = "libx264"
    crf: int = 12
    keyframe_interval: int = 12
    threshold: float = 0.4
    min_shot_seconds: float = 0.5
    max_seconds: float = 10.0
    motion: str = "flow"
    overlay: bool = True
    encoder: EncoderConfig = field(default_factory=EfficientNetConfig)
    aesthetic: AestheticConfig | None = None
    vlm: VlmFilterConfig | None = None
    caption: CaptionerConfig = field(default_factory=CaptionerConfig)
    rewrite: RewriteConfig | None = None
    text_encoder: str = "minilm-l6-v2"
    max_shard_samples: int = 512

    def __post_init__(self) -> None:
        keep = self.aspect == "keep"
        rules = (
            ("engine", self.engine in ENGINES, f"one of {', '.join(ENGINES)}"),
            ("workers", self.workers >= 0, "at least 0 (0 and 1 run in this process)"),
            ("motion", self.motion in SOURCES, f"one of {', '.join(SOURCES)}"),
            ("aspect", self.aspect in ASPECTS, f"one of {', '.join(ASPECTS)}"),
            ("size", self.size >= 16 and self.size % 2 == 0, "even and at least 16"),
            (
                "size",
                not keep or (self.size >= 32 and self.size % 16 == 0),
                "a multiple of 16, at least 32, with curation.aspect=keep",
            ),
            ("fps", 0 < self.fps <= 240, "above 0 and at most 240"),
            ("codec", self.codec in CODECS, f"one of {', '.join(CODECS)}"),
            ("crf", 0 <= self.crf <= 51, "in 0..51"),
            ("keyframe_interval", self.keyframe_interval >= 1, "at least 1"),
            ("threshold", 0 < self.threshold < 1, "between 0 and 1"),
            (
                "max_seconds",
                0 < self.max_seconds <= MAX_DURATION,
                f"above 0 and at most {MAX_DURATION:g} (a clip's looks are held in memory)",
            ),
            (
                "min_shot_seconds",
                0 <= self.min_shot_seconds <= self.max_seconds,
                f"at least 0 and at most curation.max_seconds={self.max_seconds}",
            ),
            ("max_shard_samples", self.max_shard_samples >= 1, "at least 1"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"curation.{name}={getattr(self, name)}: must be {rule}")
        self._check_places()

    def _check_places(self) -> None:
        for name in ("source", "out"):
            place = getattr(self, name)
            if place.startswith("memory://") and (self.workers > 1 or self.engine == "ray"):
                raise ValueError(
                    f"curation.{name}={place}: memory:// is one process's own; it needs "
                    "engine=local and workers at most 1"
                )
        if not is_remote(self.source) and not local_path(self.source).is_dir():
            raise ValueError(f"curation.source={self.source}: no such folder")
        source, out = _parts(self.source), _parts(self.out)
        shared = min(len(source), len(out))
        if source[:shared] == out[:shared]:
            raise ValueError(
                f"curation.out={self.out}: must lie outside curation.source={self.source} "
                "and not contain it (output would be read as input)"
            )

    def measure_recipe(self) -> dict[str, Any]:
        """The settings that change what is measured: no paths, no policy, no engine."""
        names = (
            "size", "aspect", "fps", "codec", "crf", "keyframe_interval", "threshold",
            "min_shot_seconds", "max_seconds",
        )  # fmt: skip
        models = ("motion", "overlay", "encoder", "aesthetic", "vlm")
        return {
            "version": MEASURE_VERSION,
            **{name: getattr(self, name) for name in names},
            **{name: _described(getattr(self, name)) for name in models},
        }

    def caption_recipe(self) -> dict[str, Any]:
        """The settings that change the captions of a clip, beside what was measured of it."""
        return {
            "version": CAPTION_VERSION,
            "caption": _described(self.caption),
            "rewrite": _described(self.rewrite),
            "text_encoder": self.text_encoder,
        }


def _described(value: Any) -> Any:
    """A setting as plain JSON; of a config also its class, since classes may share fields."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return {"kind": type(value).__name__, **json.loads(json.dumps(asdict(value)))}


def _parts(location: str) -> tuple[str, ...]:
    if not is_remote(location):
        return local_path(location).resolve().parts
    kind, _, path = location.partition("://")
    return (f"{kind}://", *(part for part in path.split("/") if part))
