"""OpenWFM: an open world-foundation-model platform.

``openwfm.load(path)`` gives a world; everything heavy is imported when it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openwfm.data.batch import VideoBatch
    from openwfm.world import World

__all__ = ["VideoBatch", "load"]
__version__ = "0.1.0"


def load(path: Path | str, *, device: str = "cpu") -> World:
    """A world from a run folder, a folder of published weights or a diffusers pipeline folder.

    Raises ValueError naming the file when something is missing, broken or of another kind.
    """
    from openwfm.world import World

    return World.load(path, device=device)


def __getattr__(name: str) -> Any:
    if name == "VideoBatch":
        from openwfm.data.batch import VideoBatch

        return VideoBatch
    raise AttributeError(f"module openwfm has no attribute {name}")
