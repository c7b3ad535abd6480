"""A curation run with small stages, and what is compared afterwards."""

from __future__ import annotations

from pathlib import Path

from curation_stages import make_phases
from curation_videos import scene, write_video

from openwfm.curation.config import CurationConfig
from openwfm.curation.curate import curate_folder
from openwfm.curation.policy import PolicyConfig
from openwfm.curation.stages import MakePhases
from openwfm.curation.summary import CurationReport
from openwfm.data.shards import ShardIndex

POLICY = PolicyConfig(
    rules={
        "too_short": {"score": "seconds", "min": 0.5},
        "black": {"score": "luma_p95", "min": 40},
        "frozen": {"score": "frozen", "max": 0.8},
        "static": {"score": "moving", "min": 0.005},
    }
)


def run(
    raw: Path | str,
    out: Path | str,
    workers: int = 0,
    phases: MakePhases = make_phases,
    **changes: object,
) -> CurationReport:
    """With stages that need no weights, in this process and in workers."""
    values = {"policy": POLICY, "workers": workers, "size": 32, **changes}
    return curate_folder(CurationConfig(source=str(raw), out=str(out), **values), phases)


def good(raw: Path, count: int = 3, num_frames: int = 40) -> None:
    raw.mkdir(exist_ok=True)
    for seed in range(count):
        write_video(raw / f"good{seed}.mp4", scene(num_frames, seed=seed))


def reasons(out: Path) -> dict[str, str]:
    """Verdict of each source by path."""
    rows = ShardIndex.open(out).manifest().to_pylist()
    return {r["path"]: f"{r['stage']}/{r['reason']}" for r in rows if r["record"] == "source"}


def tree(out: Path) -> dict[str, bytes]:
    """Everything but the report (which has times) and the work folder."""
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file() and ".work" not in file.parts and file.name != "report.json"
    }
