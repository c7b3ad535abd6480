"""Figures of a benchmark as a table on the screen."""

from __future__ import annotations

from typing import Any


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Every figure of ``rows``, a column each."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", "\n"), justify="right")
    for row in rows:
        table.add_row(*map(_shown, row.values()))
    Console(width=110).print(table)


def _shown(value: object) -> str:
    """Three digits of a number."""
    if not isinstance(value, float):
        return str(value)
    if value < 0.001:
        return f"{value:.1e}"
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
