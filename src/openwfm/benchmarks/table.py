"""Figures of a benchmark as a table on the screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openwfm.files import read_json
from openwfm.provenance import machine

KEYS = ("net", "clip", "does")  # of a row that another measurement of the same thing replaces


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


def measured(
    file: Path,
    settings: Any,
    tables: Iterable[tuple[str, list[dict[str, Any]]]],
    titles: dict[str, str],
) -> dict[str, Any]:
    """Print ``tables`` as they come; all of them, with the settings of each.

    Where ``settings`` name only some tables (or cases of one), the others stay what they are in
    ``file``. Raises ValueError if that was measured on another machine.
    """
    found: dict[str, Any] = {"settings": {}}
    some, cases = getattr(settings, "tables", None), getattr(settings, "cases", None)
    if (some or cases) and file.is_file():
        found = read_json(file)
        if found.pop("machine") != machine():
            raise ValueError(f"tables={some}: {file} was measured elsewhere; give another out")
    for name, rows in tables:
        print_table(titles[name], rows)
        old = found.get(name, []) if cases else []
        new = {_key(row) for row in rows}
        found[name] = [row for row in old if _key(row) not in new] + rows
        found["settings"][name] = asdict(settings)
        for key in ("tables", "cases"):
            found["settings"][name].pop(key, None)
    return found


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in KEYS)


def _shown(value: object) -> str:
    """Three digits of a number."""
    if not isinstance(value, float):
        return str(value)
    if value < 0.001:
        return f"{value:.1e}"
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
