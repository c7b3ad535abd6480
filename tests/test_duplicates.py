"""At most 3 % of our code lines stand in a run of six or more verbatim in another place.

`make dup` prints the runs.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "openwfm"
RUN, LIMIT = 6, 0.03


def code_lines(text: str) -> list[tuple[int, str]]:
    """(line number, stripped line) without blanks, comments, imports and lone punctuation."""
    lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1)]
    return [
        (i, line)
        for i, line in lines
        if line
        and not line.startswith(("#", "import ", "from "))
        and any(character.isalnum() for character in line)
    ]


def duplicated(files: dict[str, str]) -> tuple[float, list[str]]:
    """Share of code lines in a repeated run, and where the runs are."""
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    bodies = {name: code_lines(text) for name, text in files.items()}
    for name, lines in bodies.items():
        for i in range(len(lines) - RUN + 1):
            places[tuple(line for _, line in lines[i : i + RUN])].append((name, i))
    marked: set[tuple[str, int]] = set()
    rows = []
    for where in places.values():
        if len(where) > 1:
            rows.append(" ~ ".join(f"{name}:{bodies[name][i][0]}" for name, i in where))
            marked.update((name, i + k) for name, i in where for k in range(RUN))
    total = sum(len(lines) for lines in bodies.values())
    return len(marked) / max(1, total), rows


def own_files() -> dict[str, str]:
    return {str(f.relative_to(SOURCE)): f.read_text() for f in sorted(SOURCE.rglob("*.py"))}


def test_little_is_written_twice() -> None:
    share, rows = duplicated(own_files())
    assert share <= LIMIT, f"{share:.1%} duplicated:\n" + "\n".join(rows)


def test_the_measure_finds_a_copy() -> None:
    body = "\n".join(f"value_{i} = compute({i})" for i in range(10))
    share, rows = duplicated({"a": body, "b": "x = 1\n" + body})
    assert share > 0.9 and rows
    assert duplicated({"a": body, "b": body.replace("value", "other")})[0] == 0


if __name__ == "__main__":
    measured, found = duplicated(own_files())
    print("\n".join(found))
    print(f"{measured:.2%} of code lines (limit {LIMIT:.0%})")
    sys.exit(measured > LIMIT)
