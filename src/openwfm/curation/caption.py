"""Captions without a model: ground truth from a public sidecar, or sentences from measured tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openwfm.files import read_json
from openwfm.randomness import derive_seed

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


# What the camera does, as "The camera …" and as "…, the camera shows".
CAMERA = {
    "static_camera": ("holds still", "holding still"),
    "pan_left": ("pans to the left", "panning to the left"),
    "pan_right": ("pans to the right", "panning to the right"),
    "tilt_up": ("tilts up", "tilting up"),
    "tilt_down": ("tilts down", "tilting down"),
    "zoom_in": ("zooms in", "zooming in"),
    "zoom_out": ("zooms out", "zooming out"),
    "roll": ("rolls", "rolling"),
    "handheld": ("is held by hand", "held by hand"),
    "erratic": ("moves erratically", "moving erratically"),
}
SHOTS = {
    "static_camera": "A static shot",
    "handheld": "A handheld shot",
    "erratic": "A shot with erratic camera movement",
}
# As "… with" and as a clause about the picture.
MOTION = {
    "little_motion": ("little motion", "little of the picture moves"),
    "motion": ("some motion", "parts of the picture move"),
    "strong_motion": ("strong motion", "much of the picture moves"),
}
# As "…, mostly red", as "in …" and as a clause.
LIGHT = {
    "dark": ("dark", "dim light", "the light is dim"),
    "bright": ("bright", "bright light", "the light is bright"),
    "normal_light": ("evenly lit", "even light", "the light is even"),
}
COLOURS = ("black", "white", "grey", "red", "yellow", "green", "cyan", "blue", "magenta")
UNTOLD_CONTENT = frozenset({"", "none", "other", "others", "unclassified", "unknown"})


def describe(tags: Sequence[str], *, content: str = "", key: str = "") -> str:
    """One sentence from measured tags and a content category, and from nothing else.

    The camera comes first, then motion, content, light and colour; what no tag says is left out.
    ``key`` (the clip's id) chooses among the wordings, so that a data set does not repeat one.
    """
    wordings = (_as_shot, _as_camera, _as_view) if _known(tags, CAMERA) else (_as_shot,)
    choice = derive_seed(0, f"caption wording {key}") % len(wordings)
    subject = content.removeprefix("content_").replace("_", " ").strip()
    return wordings[choice](tags, "" if subject in UNTOLD_CONTENT else f" of {subject}")


def _as_shot(tags: Sequence[str], subject: str) -> str:
    """A shot that pans to the left of driving … : the subject comes before the movement."""
    kind = _known(tags, SHOTS)[:1]
    moves = [name for name in _known(tags, CAMERA) if name not in kind]
    start = (SHOTS[kind[0]] if kind else "A shot") + subject
    if moves:
        start += f" that {listing([CAMERA[name][0] for name in moves])}"
    rest = [
        f" with {MOTION[name][0]}" if not moves else f", with {MOTION[name][0]}"
        for name in _known(tags, MOTION)[:1]
    ]
    rest += [f", {LIGHT[name][0]}" for name in _known(tags, LIGHT)[:1]]
    rest += [f", mostly {name}" for name in _known(tags, COLOURS)[:1]]
    return f"{start}{''.join(rest)}."


def _as_camera(tags: Sequence[str], subject: str) -> str:
    first = f"The camera {listing([CAMERA[name][0] for name in _known(tags, CAMERA)])}"
    first += "".join(f" while {MOTION[name][1]}" for name in _known(tags, MOTION)[:1])
    first += f", in a scene{subject}" if subject else ""
    second = [LIGHT[name][2] for name in _known(tags, LIGHT)[:1]]
    second += [f"the colours are mostly {name}" for name in _known(tags, COLOURS)[:1]]
    return "; ".join(part for part in (first, listing(second)) if part) + "."


def _as_view(tags: Sequence[str], subject: str) -> str:
    camera = listing([CAMERA[name][1] for name in _known(tags, CAMERA)])
    shown = [f"{camera[0].upper()}{camera[1:]}, the camera shows a scene{subject}"]
    shown += [f"with {MOTION[name][0]}" for name in _known(tags, MOTION)[:1]]
    around = [LIGHT[name][1] for name in _known(tags, LIGHT)[:1]]
    around += [f"mostly {name} colours" for name in _known(tags, COLOURS)[:1]]
    if around:
        shown.append(f"in {listing(around)}")
    return " ".join(shown) + "."


def _known(tags: Sequence[str], names: Sequence[str] | dict[str, Any]) -> list[str]:
    """The tags that ``names`` has, each once, in the order of ``tags``."""
    return [tag for tag in dict.fromkeys(tags) if tag in names]


def listing(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
