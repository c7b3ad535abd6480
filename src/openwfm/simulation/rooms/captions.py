"""Sentences that are true of a room, its camera and of what its pixels show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openwfm.simulation.captions import article, listing

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
MOVES: dict[str, tuple[str, ...]] = {
    "orbit": ("circles{around} to the {side}", "moves in an arc{around} to the {side}"),
    "dolly forward": ("moves slowly forward", "dollies in", "pushes in"),
    "dolly back": ("moves slowly backward", "dollies out", "pulls back"),
    "truck": ("slides to the {side}", "trucks to the {side}", "moves sideways to the {side}"),
    "pan": ("pans to the {side}", "turns to the {side} on the spot"),
    "tilt": ("tilts {side}", "tilts slowly {side}"),
    "walk": ("walks forward, bending to the {side}", "advances in a curve to the {side}"),
    "walk forward": ("walks straight ahead", "advances at a walking pace"),
}
STILL = (
    "Nothing moves but the camera.",
    "The scene is static.",
    "Everything in the scene stands still.",
    "All of it is motionless.",
    "The scene itself does not move.",
)


def plural(name: str) -> str:
    """Of the last word, or of what comes before "of" and "under"."""
    for word in (" of ", " under "):
        if word in name:
            head, tail = name.split(word, 1)
            return f"{plural(head)}{word}{tail}"
    if name.endswith("shelf"):
        return f"{name[:-1]}ves"
    if name.endswith(("ch", "sh", "ss", "x")) or name.endswith("s"):
        return f"{name}es"
    return f"{name}s"


def counted(names: Sequence[str]) -> list[str]:
    """Equal names together, in the order of their first: "two wooden chairs", "a red sofa"."""
    phrases = []
    for name in dict.fromkeys(names):
        count = names.count(name)
        if count == 1:
            phrases.append(article(name))
        elif count < len(NUMBERS):
            phrases.append(f"{NUMBERS[count]} {plural(name)}")
        else:
            phrases.append(f"many {plural(name)}")
    return phrases


def movement(motion: str, direction: str, around: str | None, rng: np.random.Generator) -> str:
    """What the camera does, as a verb phrase; ``around`` is the visible middle of an orbit."""
    wordings = MOVES.get(f"{motion} {direction}") or MOVES[motion]
    place = f" around the {around}" if around else ""
    return wordings[rng.integers(len(wordings))].format(side=direction, around=place)


def describe(
    kind: str,
    seen: Sequence[str],
    motion: str,
    direction: str,
    around: str | None,
    rng: np.random.Generator,
) -> str:
    """Two or three sentences: the place, the ``seen`` things by name, the camera, and that
    nothing moves. ``rng`` only chooses the wording."""
    what = listing(counted(seen)) if seen else "bare surfaces"
    move = movement(motion, direction, around, rng)
    still = STILL[rng.integers(len(STILL))]
    place = article(kind)
    wording = rng.integers(5)
    if wording == 0:
        text = f"{place} with {what}. The camera {move}. {still}"
    elif wording == 1:
        text = f"the camera {move} in {place}, showing {what}. {still}"
    elif wording == 2:
        text = f"a static {kind}: {what}. The camera {move}."
    elif wording == 3:
        text = f"in {place}, the camera {move} past a motionless scene of {what}."
        if motion in ("pan", "tilt"):
            text = f"in {place}, the camera {move} over a motionless scene of {what}."
    else:
        text = f"{what} in {place}. {still} The camera {move}."
    return text[0].upper() + text[1:]
