"""``openwfm evaluate run=RUN``: metrics on held-out clips, beside what costs nothing.

``openwfm evaluate benchmark=tokenbench data=FOLDER run=[RUN,…]``: tokenizers side by side.
"""

from __future__ import annotations

from collections.abc import Mapping

from omegaconf import DictConfig

from openwfm.config import build
from openwfm.evaluation.config import EvaluateConfig


def main(config: DictConfig) -> int:
    """Evaluate, print a table, write the run's ``evaluation/`` or a benchmark's; returns 0."""
    if config.get("benchmark") is not None:
        return _benchmark(config)
    from openwfm.evaluation.run import FILE, evaluate_run

    request = build(config.evaluate)
    assert isinstance(request, EvaluateConfig)
    out, report = evaluate_run(request, progress=True)
    rows = dict(report.rows)
    rows.update(getattr(report, "differences", {}))
    _print(rows, f"{report.num_evaluated} of {report.num_in} clips of split {request.split}")
    for clip, reason in report.rejected.items():
        print(f"rejected {clip}: {reason}")
    print(out / FILE)
    return 0


def _benchmark(config: DictConfig) -> int:
    from openwfm.evaluation.tokenbench import PIXELS, TokenBenchConfig, run_tokenbench
    from openwfm.evaluation.tokenbench_report import FILE, write_tokenbench

    request = build(config.benchmark)
    assert isinstance(request, TokenBenchConfig)
    result = run_tokenbench(request, progress=True)
    page = write_tokenbench(request, result)
    rows = {
        f"{name}, {row['bits per pixel']:.3f} bits/pixel": {m: row[m] for m in PIXELS}
        for name, row in result.rows.items()
    }
    _print(rows, f"{result.num_clips} clips")
    print(page.with_name(FILE))
    print(page)
    return 0


def _print(rows: Mapping[str, Mapping[str, object]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from openwfm.evaluation.metrics import Interval

    table = Table(title=f"{title}; mean [95 % interval over clips]")
    metrics = list(next(iter(rows.values())))
    table.add_column("")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for row, values in rows.items():
        cells = []
        for metric in metrics:
            value = values[metric]
            assert isinstance(value, Interval)
            digits = 2 if "psnr" in metric else 3
            low, high = f"{value.low:.{digits}f}", f"{value.high:.{digits}f}"
            cells.append(f"{value.mean:.{digits}f} [{low}, {high}]")
        table.add_row(row, *cells)
    Console().print(table)
