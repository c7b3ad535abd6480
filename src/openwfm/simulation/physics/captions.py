"""A sentence about the motion, true of the recording; only the wording is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.camera import View
from openwfm.simulation.captions import article, direction, listing
from openwfm.simulation.physics import events
from openwfm.simulation.physics.recording import FLOOR, Recording
from openwfm.simulation.physics.scene import EARTH, Scene

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a writer needs; ``view`` turns directions into left and right."""

    scene: Scene
    recording: Recording
    view: View
    rng: np.random.Generator

    def either(self, *words: str) -> str:
        return str(self.rng.choice(words))

    def a(self, body: int) -> str:
        return article(self.scene.names[body])

    def the(self, body: int) -> str:
        return f"the {self.scene.names[body]}"

    def some(self, bodies: Sequence[int], singular: str, plural: str) -> str:
        """ "a red ball and a blue box fall"."""
        return f"{listing([self.a(i) for i in bodies])} {plural if len(bodies) > 1 else singular}"

    def those(self, bodies: Sequence[int], singular: str, plural: str) -> str:
        return f"{listing([self.the(i) for i in bodies])} {plural if len(bodies) > 1 else singular}"

    def towards(self, body: int) -> str:
        return direction(events.displacement(self.recording, body) * (1, 1, 0), self.view)

    @property
    def pieces(self) -> range:
        return range(len(self.scene.pieces))


def describe(
    scene: Scene, recording: Recording, floor: str, pose: np.ndarray, rng: np.random.Generator
) -> str:
    """``floor`` is its name, ``pose`` the camera's, whose left and right are meant."""
    forward = pose[:3, 2]
    view = View(
        target=(0.0, 0.0, 0.0),
        distance=1.0,
        azimuth=math.degrees(math.atan2(forward[1], forward[0])),
        elevation=math.degrees(math.asin(forward[2])),
    )
    story = Story(scene=scene, recording=recording, view=view, rng=rng)
    action = WRITERS[scene.scenario](story)
    if scene.gravity != EARTH:
        action += f", in {'weak' if scene.gravity < EARTH else 'strong'} gravity"
    wording = rng.integers(3)
    if wording == 0:
        text = f"above {article(floor)}, {action}"
    elif wording == 1:
        text = f"{action}; the floor is {article(floor).removesuffix(' floor')} one"
    else:
        text = f"{action}; the camera is still"
    return text[0].upper() + text[1:] + "."


def _free_fall(story: Story) -> str:
    recording = story.recording
    fell = [i for i in story.pieces if events.drop(recording, i) > events.MOVED]
    if not fell:
        return story.some(story.pieces, "hangs in the air", "hang in the air")
    verb = story.either("falls/fall", "drops/drop", "plunges/plunge").split("/")
    text = story.some(fell, verb[0], verb[1])
    frames = {i: events.landing(recording, i) for i in fell}
    landed = sorted((frame, i) for i, frame in frames.items() if frame is not None)
    if not landed:
        return f"{text} without reaching the floor"
    text += story.either(" to the floor", " onto the floor") if len(landed) == len(fell) else ""
    if len(landed) > 1 and landed[0][0] < landed[1][0]:
        text += f"; {story.the(landed[0][1])} {story.either('lands', 'arrives', 'hits it')} first"
    bounced = [i for _, i in landed if events.bounce_height(recording, i) > events.ROSE]
    if bounced:
        text += f"; {story.those(bounced, 'bounces', 'bounce')}"
    return text


def _tilted_plane(story: Story) -> str:
    recording, kinds = story.recording, {"roll": [], "slide": [], "stay": []}  # type: ignore[var-annotated]
    for i in story.pieces:
        if not events.moves(recording, i):
            kinds["stay"].append(i)
        elif events.rolls(recording, i, story.scene.pieces[i].body):
            kinds["roll"].append(i)
        else:
            kinds["slide"].append(i)
    slope = story.either("tilted plane", "slope", "ramp")
    clauses = []
    if kinds["roll"]:
        clauses.append(story.some(kinds["roll"], "rolls down", "roll down"))
    if kinds["slide"]:
        clauses.append(story.some(kinds["slide"], "slides down", "slide down"))
    if not clauses:
        return f"{story.some(kinds['stay'], 'rests', 'rest')} on a {slope} and nothing moves"
    text = f"{listing(clauses)} a {slope}"
    if kinds["stay"]:
        text += f" while {story.some(kinds['stay'], 'stays', 'stay')} on it"
    out = [i for k in ("roll", "slide") for i in kinds[k] if events.landing(recording, i)]
    if out and story.rng.random() < 0.6:
        text += f"; {story.those(out, 'reaches', 'reach')} the floor"
    return text


def _u_ramp(story: Story) -> str:
    ramp = story.either("a U-shaped ramp", "a half-pipe", "a U-shaped trough")
    recording, clauses = story.recording, []
    for i in story.pieces:
        verb = "rolls" if events.rolls(recording, i, story.scene.pieces[i].body) else "slides"
        times = events.crossings(recording, i)
        if not events.moves(recording, i):
            clauses.append(f"{story.a(i)} rests")
        elif times == 0:
            clauses.append(f"{story.a(i)} {verb} on one side")
        elif times == 1:
            clauses.append(f"{story.a(i)} {verb} down one side and up the other")
        else:
            clauses.append(f"{story.a(i)} {verb} back and forth")
    text = f"in {ramp}, {listing(clauses)}"
    met = events.meeting(recording, len(story.pieces))
    if met is not None:
        text += f"; {story.the(met[0])} and {story.the(met[1])} {story.either('collide', 'meet')}"
    return text


def _stack(story: Story) -> str:
    recording = story.recording
    last = story.pieces[-1]
    arrives = recording.first_contact(last, last - 1) != 0
    standing = list(story.pieces)[:-1] if arrives else list(story.pieces)
    pile = story.either("stack", "pile", "tower")
    of = f"a {pile} of {listing([story.a(i) for i in standing])}" if len(standing) > 1 else ""
    of = of or story.a(standing[0])
    down = [i for i in standing if events.falls_off(recording, i)]
    if arrives and recording.first_contact(last, last - 1) is not None:
        text = f"{story.a(last)} {story.either('drops', 'comes down')} onto {of}"
    elif arrives:
        text = f"{story.a(last)} {story.either('drops', 'falls')} beside {of}"
    else:
        text = of
    if not down:
        stays = story.either("stays up", "stands firm", "does not move")
        return f"{text}, which {stays}" if arrives else f"{text} {stays}"
    falls = story.either("topples", "collapses", "tips over")
    text = f"{text}, which {falls}" if arrives else f"{text} {falls}"
    where = story.towards(down[-1])
    return (
        f"{text}: {story.those(down, 'falls', 'fall')} {where if len(down) == 1 else ''}".rstrip()
    )


def _dominoes(story: Story) -> str:
    recording, names = story.recording, story.scene.names
    row = [i for i in story.pieces if story.scene.pieces[i].noun == "domino"]
    fallen = [i for i in row if events.tipping(recording, i) is not None]
    line = f"a row of {NUMBERS[len(row)]} dominoes"
    if len(row) < len(names):
        ball = len(row)
        touched = any(recording.first_contact(ball, i) is not None for i in row)
        start = f"{story.a(ball)} rolls {'into' if touched else 'towards'} {line}"
    else:
        start = f"{story.a(row[0])} tips over at the end of {line}"
    if len(fallen) == len(row):
        order = story.either("one after another", "in turn", "one by one")
        first = recording.positions[0, row[-1]] - recording.positions[0, row[0]]
        return f"{start}, and all of them fall {order} {direction(first * (1, 1, 0), story.view)}"
    if not fallen:
        return f"{start}, and none of them {story.either('falls', 'topples')}"
    number = NUMBERS[len(fallen)]
    return f"{start}, and only {number} of them {'falls' if len(fallen) == 1 else 'fall'}"


def _seesaw(story: Story) -> str:
    recording, pieces = story.recording, list(story.pieces)
    board = len(pieces)
    angles = events.board_angle(recording, board)
    flung = [i for i in pieces if events.rise(recording, i) > 0.1]
    late = [i for i in pieces if recording.first_contact(board, i) not in (0, None)]
    if late:
        others = [i for i in pieces if i not in late]
        text = f"{story.some(late, 'drops', 'drop')} onto a seesaw"
        if flung:
            verb = story.either("is thrown", "is flung", "flies")
            text += f" and {story.the(flung[0])} {verb} up from the other end"
        elif others:
            text += f" that carries {listing([story.a(i) for i in others])}"
        return text
    text = f"{listing([story.a(i) for i in pieces])} sit on a seesaw"
    peak = float(angles[np.abs(angles).argmax()])
    if abs(peak) < 2:
        return f"{text}, which {story.either('stays level', 'is balanced', 'does not tip')}"
    low = np.array([-math.copysign(1.0, peak), 0.0, 0.0])
    sunk = [i for i in pieces if events.drop(recording, i) > events.MOVED]
    heavy = [i for i in sunk if recording.positions[0, i, 0] * low[0] > 0]
    text += f", which tips {direction(low, story.view)}"
    text += f" as {story.those(heavy, 'goes down', 'go down')}" if heavy else ""
    off = [i for i in pieces if recording.first_contact(i, FLOOR) is not None]
    return f"{text}; {story.those(off, 'ends', 'end')} on the floor" if off else text


def _gyroscope(story: Story) -> str:
    wheel = len(story.pieces)
    turned = events.precessed(story.recording, wheel)
    way = "anticlockwise" if turned > 0 else "clockwise"
    verb = story.either("precesses", "swings round", "goes slowly round its stand")
    amount = f"about {max(1, round(abs(turned) / 45)) * 45} degrees"
    spinning = story.either("spinning", "fast spinning", "whirling")
    text = f"a {spinning} {story.scene.names[wheel]} on a stand {verb} {way}, {amount}"
    if story.pieces:
        beside = story.either("beside", "next to", "not far from")
        text += f", {beside} {listing([story.a(i) for i in story.pieces])}"
    return text


WRITERS: dict[str, Callable[[Story], str]] = {
    "free_fall": _free_fall,
    "tilted_plane": _tilted_plane,
    "u_ramp": _u_ramp,
    "stable_stack": _stack,
    "unstable_stack": _stack,
    "dominoes": _dominoes,
    "seesaw": _seesaw,
    "gyroscope": _gyroscope,
}
