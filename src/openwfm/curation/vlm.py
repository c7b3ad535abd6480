"""A vision model as a judge: yes or no to each of a list of defects, and a content label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from openwfm.curation.answer import clean_text, find_object
from openwfm.curation.captioner import VisionConfig, ask_windows, outcome
from openwfm.curation.endpoint import Answer, Endpoint
from openwfm.curation.record import Clip, Record

YES, NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})
LABEL = "label"
UNLABELLED = "unclassified"


@dataclass(frozen=True, kw_only=True)
class VlmFilterConfig:
    """``defects``: what is asked, by the key of the answer. ``labels``: kinds of content of which
    one is chosen, or none. ``prompt.text`` has the places ``{defects}`` and ``{labels}``.
    ``fail_closed``: a clip of which no window was judged scores 1, else 0.
    """

    vision: VisionConfig
    defects: Mapping[str, str]
    labels: tuple[str, ...]
    fail_closed: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if not self.defects or LABEL in self.defects:
            raise ValueError(
                f"vlm.defects={dict(self.defects)}: must name some, none of them label"
            )
        for name in (*self.defects, *self.labels):
            if _plain(name) != name:
                raise ValueError(f"vlm: {name}: must be of small letters, digits and _")
        self.vision.prompt.check_places("defects", "labels")

    def question(self) -> str:
        lines = "\n".join(f"- {name}: {text}" for name, text in self.defects.items())
        return self.vision.prompt.fill({"defects": lines, "labels": ", ".join(self.labels)})


class VlmFilter:
    """Adds the score ``vlm_defects``, the share of judged windows with any defect, in [0, 1].

    It decides nothing: the reference's rule is a policy of at most 0.5. Evidence ``vlm``: the share
    of judged windows for each defect that was seen, the label of most windows (``top``), every
    window's outcome. The label is also the tag ``vlm_LABEL``. Thread safe.
    """

    name = "vlm"
    accepts = Clip

    def __init__(self, config: VlmFilterConfig) -> None:
        self.config = config
        self.endpoint: Endpoint | None = None

    def setup(self) -> None:
        vision = self.config.vision
        self.endpoint = Endpoint(vision.endpoint, vision.sampling)

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and self.endpoint is not None
        config = self.config
        windows, answers = ask_windows(
            self.endpoint, record, config.vision, config.question(), self.name
        )
        entries, verdicts = [], []
        for (start, end), answer in zip(windows, answers, strict=True):
            verdict = judge(answer, config)
            entries.append({"start": start, "end": end, **_entry(answer, verdict)})
            if verdict is not None:
                verdicts.append(verdict)
        score = _share([bool(verdict.defects) for verdict in verdicts], float(config.fail_closed))
        top = _commonest([verdict.label for verdict in verdicts])
        seen = {
            name: _share([name in verdict.defects for verdict in verdicts], 0.0)
            for name in config.defects
        }
        evidence = {
            "model": config.vision.endpoint.model,
            "top": top,
            "defects": {name: share for name, share in seen.items() if share},
            "windows": entries,
        }
        tags = record.tags if top == UNLABELLED else (*record.tags, f"vlm_{top}")
        return [
            replace(
                record,
                scores={**record.scores, "vlm_defects": score},
                tags=tags,
                evidence={**record.evidence, self.name: evidence},
            )
        ]


@dataclass(frozen=True)
class Verdict:
    defects: tuple[str, ...]
    label: str


def judge(answer: Answer, config: VlmFilterConfig) -> Verdict | None:
    """None when the server failed, or the answer holds no yes or no to any defect.

    A defect that the answer leaves out was not seen; keys and labels that were not asked for are
    ignored.
    """
    found = None if answer.failure else find_object(answer.text)
    if found is None:
        return None
    said = {_plain(key): value for key, value in found.items()}
    words = {name: _plain(said[name]) for name in config.defects if name in said}
    known = {name: word in YES for name, word in words.items() if word in YES | NO}
    if not known:
        return None
    label = _plain(said.get(LABEL, ""))
    return Verdict(
        tuple(name for name, yes in known.items() if yes),
        label if label in config.labels else UNLABELLED,
    )


def _plain(value: Any) -> str:
    """``Video-in-video`` → ``video_in_video``; ``True`` → ``true``; no text of a container."""
    if not isinstance(value, str | bool | int):
        return ""
    letters = (letter if letter.isalnum() else " " for letter in clean_text(str(value), 64))
    return "_".join("".join(letters).lower().split())


def _entry(answer: Answer, verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {"defects": [], "label": "", **outcome(answer, answer.failure or "not_understood")}
    return {"defects": list(verdict.defects), "label": verdict.label, **outcome(answer, "")}


def _share(flags: list[bool], empty: float) -> float:
    return round(sum(flags) / len(flags), 6) if flags else empty


def _commonest(labels: list[str]) -> str:
    """The label of most windows, the earlier one where two are as common."""
    counts = Counter(label for label in labels if label != UNLABELLED)
    return counts.most_common(1)[0][0] if counts else UNLABELLED
