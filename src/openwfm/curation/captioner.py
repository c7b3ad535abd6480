"""Caption stages: ground truth, rules or a vision model; then an optional rewrite of the text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from openwfm.curation.answer import clean_text, is_refusal
from openwfm.curation.caption import describe, read_sidecar
from openwfm.curation.endpoint import Answer, Endpoint, Question
from openwfm.curation.prompts import PromptConfig
from openwfm.curation.record import Caption, Clip, Record, RejectedError
from openwfm.curation.server import EndpointConfig, SamplingConfig
from openwfm.curation.windows import WindowConfig, cut_windows, window_pictures


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A vision model behind an endpoint, what it is shown and what it is asked."""

    endpoint: EndpointConfig
    prompt: PromptConfig
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """``ground_truth``: a public sidecar's sentence goes before all others. ``vision``: None for
    rules on measured tags. ``max_characters`` of a window's caption. ``fail_closed``: a clip of
    which a window got no caption is rejected (``caption_failed``); else it keeps the windows that
    have one, or a sentence from rules when none has.
    """

    ground_truth: bool = True
    vision: VisionConfig | None = None
    max_characters: int = 2000
    fail_closed: bool = False

    def __post_init__(self) -> None:
        if self.max_characters < 16:
            raise ValueError(f"caption.max_characters={self.max_characters}: must be at least 16")
        if self.vision is not None:
            self.vision.prompt.check_places()
            if (shown := self.vision.windows.pictures_of) != "clip":
                raise ValueError(
                    f"caption.vision.windows.pictures_of={shown}: must be clip (captions are "
                    "written when the stills of the source are gone; the vlm filter sees them)"
                )


class WriteCaption:
    """Adds one caption, and what the sidecar says of kind and licence.

    Its source is ``ground_truth``, ``rules`` or ``vlm:MODEL``. A vision model's windows (frames of
    the clip, end exclusive), failures and token counts are the evidence ``caption``. Thread safe.
    """

    name = "caption"
    accepts = Clip

    def __init__(self, config: CaptionerConfig | None = None) -> None:
        self.config = config or CaptionerConfig()
        self.endpoint: Endpoint | None = None

    def setup(self) -> None:
        """Opens the connection pool where a vision model is asked."""
        vision = self.config.vision
        if vision is not None:
            self.endpoint = Endpoint(vision.endpoint, vision.sampling)

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip)
        provenance, text = self._sidecar(record)
        clip = replace(record, provenance={**record.provenance, **provenance})
        if text and self.config.ground_truth:
            return [replace(clip, captions=(Caption(text=text, source="ground_truth"),))]
        if self.config.vision is not None:
            return [self._look(clip, self.config.vision)]
        return [replace(clip, captions=(_by_rules(clip),))]

    @staticmethod
    def _sidecar(clip: Clip) -> tuple[dict[str, str], str | None]:
        assert clip.origin is not None and clip.origin.file is not None
        provenance = {"kind": "natural", "license": ""}
        try:
            sidecar = read_sidecar(clip.origin.file)
        except ValueError as error:
            return {**provenance, "sidecar_error": str(error)}, None
        if sidecar is None:
            return provenance, None
        text = sidecar.caption(clip.start_frame, clip.end_frame)
        return {"kind": sidecar.kind, "license": sidecar.license}, text

    def _look(self, clip: Clip, vision: VisionConfig) -> Clip:
        assert self.endpoint is not None
        windows, answers = ask_windows(self.endpoint, clip, vision, vision.prompt.text, self.name)
        texts, entries = [], []
        for (start, end), answer in zip(windows, answers, strict=True):
            text, failure = usable_text(answer, self.config.max_characters)
            if text:
                texts.append(text)
            entries.append({"start": start, "end": end, "text": text, **outcome(answer, failure)})
        failed = [entry for entry in entries if entry["failure"]]
        if self.config.fail_closed and (failed or not windows):
            raise RejectedError("caption_failed", _first_failure(failed))
        model = vision.endpoint.model
        caption = Caption(text=" ".join(texts), source=f"vlm:{model}") if texts else _by_rules(clip)
        evidence = {"model": model, "windows": entries}
        return replace(clip, captions=(caption,), evidence={**clip.evidence, self.name: evidence})


def _by_rules(clip: Clip) -> Caption:
    content = clip.evidence.get("content")
    top = content.get("top") if isinstance(content, dict) else None
    text = describe(
        clip.tags, content=top if isinstance(top, str) else "", key=clip.id or clip.name
    )
    return Caption(text=text, source="rules")


def _first_failure(failed: list[dict[str, Any]]) -> str:
    if not failed:
        return "the clip is too short for a window"
    first = failed[0]
    detail = f" ({first['detail']})" if first["detail"] else ""
    return f"frames {first['start']}..{first['end']}: {first['failure']}{detail}"


def ask_windows(
    endpoint: Endpoint, clip: Clip, vision: VisionConfig, text: str, purpose: str
) -> tuple[list[tuple[int, int]], list[Answer]]:
    """The same question about every window of a clip: windows and answers, in order of time."""
    windows = cut_windows(clip.num_frames, vision.windows)
    pictures = window_pictures(clip, windows, vision.windows) if windows else []
    questions = [
        Question(
            about=f"{purpose} {clip.name} {clip.id} {start}..{end}",
            system=vision.prompt.system,
            text=text,
            images=images,
        )
        for (start, end), images in zip(windows, pictures, strict=True)
    ]
    return windows, endpoint.ask_all(questions)


def usable_text(answer: Answer, max_characters: int) -> tuple[str, str]:
    """Cleaned text and no failure, or no text and a failure in one word."""
    if answer.failure:
        return "", answer.failure
    text = clean_text(answer.text, max_characters)
    if not any(letter.isalpha() for letter in text):
        return "", "empty"
    return ("", "refusal") if is_refusal(text) else (text, "")


def outcome(answer: Answer, failure: str) -> dict[str, Any]:
    """What the evidence keeps of an answer besides its words."""
    return {
        "failure": failure,
        "detail": answer.detail if failure else "",
        "cut": answer.cut,
        "attempts": answer.attempts,
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": answer.output_tokens,
    }


@dataclass(frozen=True, kw_only=True)
class RewriteConfig:
    """A language model that puts a caption into other words; ``prompt.text`` has the place
    ``{caption}``. ``fail_closed``: a clip without a rewrite is rejected (``rewrite_failed``)."""

    endpoint: EndpointConfig
    prompt: PromptConfig
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    max_characters: int = 2000
    fail_closed: bool = False

    def __post_init__(self) -> None:
        if self.max_characters < 16:
            raise ValueError(f"rewrite.max_characters={self.max_characters}: must be at least 16")
        self.prompt.check_places("caption")


class RewriteCaption:
    """Adds a caption with source ``rewrite:MODEL`` after the raw one, which stays the first.

    The raw caption enters the prompt as one JSON string: it may come from a model or a stranger's
    file, and cannot end its own quotation. Thread safe.
    """

    name = "rewrite"
    accepts = Clip

    def __init__(self, config: RewriteConfig) -> None:
        self.config = config
        self.endpoint: Endpoint | None = None

    def setup(self) -> None:
        self.endpoint = Endpoint(self.config.endpoint, self.config.sampling)

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and self.endpoint is not None and record.captions
        raw = json.dumps(record.captions[0].text, ensure_ascii=False)
        question = Question(
            about=f"{self.name} {record.name} {record.id}",
            system=self.config.prompt.system,
            text=self.config.prompt.fill({"caption": raw}),
        )
        (answer,) = self.endpoint.ask_all([question])
        text, failure = usable_text(answer, self.config.max_characters)
        if failure and self.config.fail_closed:
            raise RejectedError("rewrite_failed", f"{failure} {answer.detail}".rstrip())
        model = self.config.endpoint.model
        made = (Caption(text=text, source=f"rewrite:{model}"),) if text else ()
        evidence = {"model": model, **outcome(answer, failure)}
        return [
            replace(
                record,
                captions=(*record.captions, *made),
                evidence={**record.evidence, self.name: evidence},
            )
        ]
