"""No name is used that nobody defined.

ruff's F821 and mypy's name-defined are off, because the shape strings of jaxtyping look like names
to them. Here ruff is asked all the same, and what stands inside a string is let go.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def undefined(folder: Path) -> list[str]:
    pytest.importorskip("ruff")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821"]
    done = subprocess.run(
        [*command, "--output-format", "json", str(folder)], capture_output=True, text=True
    )
    found = []
    for fault in json.loads(done.stdout):
        if fault["code"] != "F821":
            continue  # a shape string that is no expression
        file, place = Path(fault["filename"]), fault["location"]
        line = file.read_text().splitlines()[place["row"] - 1]
        if line[: place["column"]].count('"') % 2 == 0:
            found.append(f"{file.name}:{place['row']}: {fault['message']}")
    return found


def test_the_source_uses_no_undefined_name() -> None:
    assert undefined(ROOT / "src") == []


def test_an_undefined_name_is_seen_and_a_shape_is_not(tmp_path: Path) -> None:
    text = 'def f(x: Float[Tensor, "b c"]) -> int:\n    return _gone(x)\n'
    (tmp_path / "a.py").write_text("from jaxtyping import Float\nfrom torch import Tensor\n" + text)
    assert undefined(tmp_path) == ["a.py:4: Undefined name `_gone`"]
