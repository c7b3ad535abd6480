"""Stage 5: a sentence. Ground truth from a public sidecar if there is one, else rules on tags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openwfm.curation.record import Caption, Clip, Record
from openwfm.files import read_json

MIN_OVERLAP = 0.5


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """``NAME.json`` beside ``NAME.mp4``: what the maker of the video says about its shots."""

    kind: str
    license: str
    shots: tuple[tuple[int, int, str], ...]

    def caption(self, start: int, end: int) -> str | None:
        """Caption of the shot that covers most of ``start``..``end``, at least half of it."""
        best, most = None, MIN_OVERLAP * (end - start)
        for first, last, text in self.shots:
            shared = min(end, last) - max(start, first)
            if shared >= most:
                best, most = text, shared
        return best


def read_sidecar(video: Path) -> Sidecar | None:
    """None when there is no sidecar. Raises ValueError naming the file and the key."""
    file = video.with_suffix(".json")
    if not file.is_file():
        return None
    data = read_json(file)
    if not isinstance(data, dict) or data.get("schema") != 1:
        raise ValueError(f"{file.name}: schema: must be 1")
    entries = data.get("shots_captions", [])
    if not isinstance(entries, list):
        raise ValueError(f"{file.name}: shots_captions: must be a list")
    return Sidecar(
        kind=str(data.get("kind", "natural")),
        license=str(data.get("license", "")),
        shots=tuple(_shot(entry, file.name) for entry in entries if _captioned(entry)),
    )


def _captioned(entry: Any) -> bool:
    return not isinstance(entry, dict) or bool(entry.get("caption"))


def _shot(entry: Any, file: str) -> tuple[int, int, str]:
    try:
        return int(entry["start"]), int(entry["end"]), str(entry["caption"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: shots_captions: needs start, end, caption ({error})") from error


class WriteCaption:
    """Adds one caption, and what the sidecar says of kind and licence."""

    name = "caption"
    accepts = Clip

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.origin is not None
        assert record.origin.file is not None
        provenance = {"kind": "natural", "license": ""}
        text = None
        try:
            sidecar = read_sidecar(record.origin.file)
        except ValueError as error:
            sidecar, provenance["sidecar_error"] = None, str(error)
        if sidecar is not None:
            provenance |= {"kind": sidecar.kind, "license": sidecar.license}
            text = sidecar.caption(record.start_frame, record.end_frame)
        caption = (
            Caption(text=text, source="ground_truth")
            if text
            else Caption(text=describe(record.tags), source="rules")
        )
        return [
            replace(record, captions=(caption,), provenance={**record.provenance, **provenance})
        ]


CAMERA = {
    "static_camera": "A static shot",
    "pan_left": "A shot that pans to the left",
    "pan_right": "A shot that pans to the right",
    "tilt_up": "A shot that tilts up",
    "tilt_down": "A shot that tilts down",
    "zoom_in": "A shot that zooms in",
    "zoom_out": "A shot that zooms out",
    "handheld": "A handheld shot",
}
MOTION = {"little_motion": "little motion", "motion": "motion", "strong_motion": "strong motion"}
LIGHT = {"dark": "dark", "bright": "bright", "normal_light": "evenly lit"}
COLOURS = ("black", "white", "grey", "red", "yellow", "green", "cyan", "blue", "magenta")


def describe(tags: tuple[str, ...]) -> str:
    """One sentence from measured tags, and from nothing else."""
    camera = next((CAMERA[tag] for tag in tags if tag in CAMERA), "A shot")
    motion = next((MOTION[tag] for tag in tags if tag in MOTION), "motion")
    lit = next((LIGHT[tag] for tag in tags if tag in LIGHT), "evenly lit")
    colour = next((tag for tag in tags if tag in COLOURS), "grey")
    return f"{camera} with {motion}, {lit}, mostly {colour}."
