"""``openwfm report in=DIR``: one self-contained page of what was made there."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from openwfm.config import build
from openwfm.evaluation.config import ReportConfig


def main(config: DictConfig) -> int:
    """Write the page and say where it is; returns 0."""
    from openwfm.evaluation.curation_inputs import is_curation, read_curation
    from openwfm.evaluation.curation_report import write_curation_report
    from openwfm.evaluation.report import write_report
    from openwfm.evaluation.report_inputs import read_inputs

    request = build(config.report)
    assert isinstance(request, ReportConfig)
    world = Path(request.world)
    out = Path(request.out) if request.out else world / "report.html"
    if is_curation(world):
        write_curation_report(read_curation(world, request.num_clips), out)
        print(f"{out} ({out.stat().st_size / 2**20:.1f} MiB)")
        return 0
    inputs = read_inputs(world, request.num_clips)
    write_report(inputs, out)
    for name in inputs.missing:
        print(f"not there: {world / name}")
    print(f"{out} ({out.stat().st_size / 2**20:.1f} MiB)")
    return 0
