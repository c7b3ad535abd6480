"""Prompts: values of the config, filled in at marked places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """``system`` may be empty. ``{name}`` in ``text`` is a place that the stage fills."""

    system: str
    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"prompt.text={self.text!r}: must hold the question")

    def check_places(self, *names: str) -> None:
        """Raises ValueError when the text has other places than these."""
        found = sorted(set(PLACE.findall(self.text)))
        if found != sorted(names):
            raise ValueError(f"prompt.text: has the places {found}, must have {sorted(names)}")

    def fill(self, values: Mapping[str, str]) -> str:
        """In one pass: what is filled in is never searched for places itself."""
        return PLACE.sub(lambda match: values[match[1]], self.text)
