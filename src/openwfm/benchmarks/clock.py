"""Where the time of a run goes: functions that are timed while they do their work."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Seconds by label. A timed function inside another counts for the inner label alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def timing(self, label: str) -> Iterator[None]:
        self._switch()
        self._stack.append(label)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def _switch(self) -> None:
        """Give the time since the last switch to the label that is running."""
        now = time.perf_counter()
        if self._stack:
            label = self._stack[-1]
            self.seconds[label] = self.seconds.get(label, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def watch(self, owner: Any, name: str, label: str) -> Iterator[None]:
        """Time every call of ``owner.name`` while the block runs."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.timing(label):
                return original(*arguments, **keywords)

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, original)

    def shares(self, total: float) -> dict[str, float]:
        """Fraction of ``total`` seconds by label; ``other`` is what no label had."""
        found = {label: seconds / total for label, seconds in self.seconds.items()}
        return found | {"other": max(0.0, 1 - sum(found.values()))}
