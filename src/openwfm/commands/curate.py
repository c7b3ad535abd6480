"""``openwfm curate in=RAW out=SHARDS``: raw videos → shards."""

from __future__ import annotations

from omegaconf import DictConfig

from openwfm.config import build


def main(config: DictConfig) -> int:
    """Curate a folder and print the funnel; returns 0, or 1 when no clip was kept."""
    from openwfm.curation.curate import curate_folder

    report = curate_folder(build(config.curation))
    _print(report.to_json())
    return 0 if report.num_clips_kept else 1


def _print(report: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"curation: {report['out']}")
    for column in ("stage", "received", "created", "passed", "rejected"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    table.add_column("reasons")
    table.add_column("time", justify="right")
    for stage in report["stages"]:
        counts = [str(stage[name]) for name in ("received", "created", "passed", "rejected")]
        reasons = ", ".join(f"{name} {count}" for name, count in sorted(stage["reasons"].items()))
        table.add_row(stage["name"], *counts, reasons, f"{stage['share']:.0%}")
    console = Console()
    console.print(table)
    speed = report["new_frames_per_second"]
    console.print(
        f"{report['num_sources']} files ({report['num_sources_rejected']} rejected), "
        f"{report['num_clips']} shots → {report['num_clips_kept']} clips from "
        f"{report['source_frames']} frames in {report['seconds']:.1f} s"
        + (f" ({speed:.0f} frames/s)" if speed else " (already done)")
    )
