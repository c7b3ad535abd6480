"""What ``openwfm play`` is asked for, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """``run`` is a run folder or a folder of weights; ``frames`` are videos or pictures that a
    session begins with. ``idle_seconds`` without a message end a session; ``max_history`` frames
    of each branch are kept for download; ``zoom`` enlarges the picture on the page.
    """

    run: str
    frames: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "cpu"
    seed: int = 0
    max_sessions: int = 4
    max_branches: int = 8
    max_history: int = 2000
    max_message: int = 4096
    idle_seconds: float = 600.0
    zoom: int = 6

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))
        if not self.frames:
            raise ValueError("frames=[]: must name at least one video or picture to begin with")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port={self.port}: must be between 0 (any free one) and 65535")
        names = ("max_sessions", "max_branches", "max_history", "max_message", "zoom")
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value}: must be a whole number, at least 1")
        if not self.idle_seconds > 0:
            raise ValueError(f"idle_seconds={self.idle_seconds}: must be positive")
