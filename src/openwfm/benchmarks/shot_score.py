"""Scores of a shot detector against an answer sheet: hard cuts and dissolves apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

TOLERANCE = 2  # frames
Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Counts of one kind of transition; ``false`` matched nothing of either kind."""

    true: int
    found: int
    false: int

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.false)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.true)

    @property
    def f1(self) -> float:
        return 2 * self.found / max(1, self.true + self.found + self.false)


def match(
    spans: Sequence[Span], cuts: Sequence[int], dissolves: Sequence[Span]
) -> tuple[set[int], set[int], list[Span]]:
    """Positions of the cuts and dissolves that were found, and the spans that match neither.

    A span is the transition's frames, end exclusive; a cut at frame c (the first of the new shot)
    is the span (c - 1, c). A true transition is found by a span that overlaps it within
    ``TOLERANCE`` frames, one by one in order of time: a second span there is false.
    """
    truth = [(cut - 1, cut, "cut", index) for index, cut in enumerate(cuts)]
    truth += [(start, end, "dissolve", index) for index, (start, end) in enumerate(dissolves)]
    truth.sort()
    found: dict[str, set[int]] = {"cut": set(), "dissolve": set()}
    false: list[Span] = []
    for first, last in sorted(spans):
        near = [
            (kind, index)
            for start, end, kind, index in truth
            if first < end + TOLERANCE and start - TOLERANCE < last and index not in found[kind]
        ]
        if near:
            kind, index = near[0]
            found[kind].add(index)
        else:
            false.append((first, last))
    return found["cut"], found["dissolve"], false


def score(found: list[list[Span]], sheet: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all films, ``{"cut": …, "dissolve": …}``, with precision, recall and F1."""
    matched = [
        match(spans, entry["cuts"], entry["dissolves"])
        for spans, entry in zip(found, sheet, strict=True)
    ]
    false = sum(len(wrong) for _, _, wrong in matched)
    scores = {}
    for place, (kind, key) in enumerate((("cut", "cuts"), ("dissolve", "dissolves"))):
        one = Score(
            true=sum(len(entry[key]) for entry in sheet),
            found=sum(len(hits[place]) for hits in matched),
            false=false,
        )
        scores[kind] = {
            **asdict(one),
            "precision": round(one.precision, 4),
            "recall": round(one.recall, 4),
            "f1": round(one.f1, 4),
        }
    return scores
