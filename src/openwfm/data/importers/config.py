"""What ``openwfm convert`` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from openwfm.data.importers.lerobot_layout import VERSIONS


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """A LeRobot dataset into shards; see `openwfm.data.importers.lerobot.import_lerobot`.

    ``text_encoder`` null leaves text embeddings out.
    """

    source: str
    out: str
    cameras: tuple[str, ...] | None = None
    action: str = "action"
    max_episodes: int | None = None
    max_samples: int = 512
    text_encoder: str | None = "minilm-l6-v2"

    def __post_init__(self) -> None:
        if self.cameras is not None:
            object.__setattr__(self, "cameras", tuple(self.cameras))
        for name in ("max_episodes", "max_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"convert.{name}={value}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Shards into a LeRobot dataset; see `openwfm.data.importers.lerobot_export`."""

    source: str
    out: str
    version: str = "v3.0"
    robot_type: str = "unknown"

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(
                f"convert.version={self.version}: must be one of {', '.join(VERSIONS)}"
            )
