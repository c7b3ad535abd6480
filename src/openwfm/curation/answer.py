"""What a language model sends back, treated as data: cleaned text, repaired JSON, refusals.

Nothing here raises on any text: an answer that cannot be used becomes ``""`` or None.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

THINKING = re.compile(r"<(think|thinking|reasoning)>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
OPEN_THINKING = re.compile(r"<(think|thinking|reasoning)>", re.IGNORECASE)
CLOSED_THINKING = re.compile(r"</(think|thinking|reasoning)\s*>", re.IGNORECASE)
ANSWER = re.compile(r"<answer>(.*?)(?:</answer\s*>|$)", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"^\s*```\w*\s*(.*?)\s*(?:```\s*)?$", re.DOTALL)
# A refusal begins with it; further on, the same words may be part of a description.
REFUSAL = re.compile(
    r"^\W*(sorry\b|i(['’]m| am) (very )?(sorry|unable|not able)|i (can(no|['’])t|can not|won['’]t)"
    r"|i(['’]m| am) an ai\b|as an ai\b|as a (large )?language model|unable to (view|see|process)"
    r"|(no|the) (images?|videos?|frames?) (was|were|is|are|has|have)?( been)? ?(not )?provided)",
    re.IGNORECASE,
)
MAX_BRACES = 64
DECODER = json.JSONDecoder(strict=False)


def final_part(text: str) -> str:
    """The answer without the model's thinking: what an ``<answer>`` tag holds, if there is one.

    Thinking that never ends leaves nothing; thinking whose start is missing (some chat templates
    open it in the prompt) ends at its closing tag.
    """
    text = THINKING.sub(" ", text)
    opened = OPEN_THINKING.search(text)
    if opened:
        text = text[: opened.start()]
    closed = list(CLOSED_THINKING.finditer(text))
    if closed:
        text = text[closed[-1].end() :]
    answers = ANSWER.findall(text)
    return answers[-1] if answers else text


def clean_text(text: str, max_characters: int) -> str:
    """One printable line: control and formatting characters out, white space single, at most
    ``max_characters`` long (cut after a sentence if one ends in the second half, else a word)."""
    text = FENCE.sub(r"\1", unicodedata.normalize("NFC", final_part(text)))
    kept = "".join(
        " " if letter.isspace() else letter
        for letter in text
        if letter.isspace() or unicodedata.category(letter)[0] != "C"
    )
    line = " ".join(kept.split())
    if len(line) > 1 and line[0] == line[-1] == '"':
        line = line[1:-1].strip()
    return shorten(line, max_characters)


def shorten(line: str, max_characters: int) -> str:
    if len(line) <= max_characters:
        return line
    cut = line[:max_characters]
    stop = max(cut.rfind(mark) for mark in (". ", "! ", "? "))
    if stop >= max_characters // 2:
        return cut[: stop + 1]
    head, space, _ = cut.rpartition(" ")
    return head if space else cut


def is_refusal(text: str) -> bool:
    return REFUSAL.match(text) is not None


def find_object(text: str) -> dict[str, Any] | None:
    """The last JSON object in an answer, repaired where it was only cut off or badly written.

    Trailing commas, Python's words for constants and single quotes are put right; of an object
    that the end of the answer cut off, the finished entries are kept. Meant for flat objects.
    """
    text = final_part(text)
    tidy = _tidy(text)
    for candidate in (text, tidy):
        found = _last_object(candidate)
        if found is not None:
            return found
    return _cut_object(tidy)


def _last_object(text: str) -> dict[str, Any] | None:
    found, position = None, text.find("{")
    for _ in range(MAX_BRACES):
        if position < 0:
            break
        try:
            found, end = DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        position = text.find("{", end)
    return found


def _tidy(text: str) -> str:
    if '"' not in text:
        text = text.replace("'", '"')
    text = re.sub(r",\s*([}\]])", r"\1", text)
    for python, plain in (("True", "true"), ("False", "false"), ("None", "null")):
        text = re.sub(rf"(?<=[:\[,\s]){python}(?=[\s,}}\]]|$)", plain, text)
    return text


def _cut_object(text: str) -> dict[str, Any] | None:
    """The whole entries of the last object, which the end of the text cut off."""
    start = text.rfind("{")
    commas = [match.start() for match in re.finditer(",", text) if match.start() > start >= 0]
    for comma in reversed(commas[-MAX_BRACES:]):
        found = _last_object(text[start:comma] + "}")
        if found is not None:
            return found
    return None
