"""How long each stage of `make world` took: ``python -m openwfm.stages FOLDER NAME SECONDS``."""

from __future__ import annotations

import sys
from pathlib import Path

from openwfm.files import read_json, write_json


def record_stage(folder: Path, name: str, seconds: float) -> None:
    """Add a stage to ``FOLDER/stages.json``; a stage that is already there keeps its first time.

    A second `make world` finds everything done, and its near-zero times say nothing.
    """
    file = folder / "stages.json"
    stages = read_json(file) if file.is_file() else []
    if all(stage["name"] != name for stage in stages):
        write_json(file, [*stages, {"name": name, "seconds": round(seconds, 1)}])


if __name__ == "__main__":
    record_stage(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
