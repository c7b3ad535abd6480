"""Sentences that are true of what the simulator recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openwfm.simulation.bodies import Body, world_half_extents
from openwfm.simulation.camera import CameraPath, View
from openwfm.simulation.looks import Look
from openwfm.simulation.scenarios import Scene
from openwfm.simulation.stage import PADDLE, TABLE, Recording

MOVED, STOOD = 0.3, 0.03
HITS = ("hits", "bumps into", "strikes", "runs into")
MEETS = ("collide", "run into each other", "bump into each other")
SLIDES = ("slides", "glides")


def describe(
    scenario: str,
    scene: Scene,
    recording: Recording,
    look: Look,
    camera: CameraPath,
    rng: np.random.Generator,
) -> str:
    """One sentence: who does what, on which table, and how the camera moves.

    Directions are those of the picture at the first frame. ``rng`` only chooses the wording.
    """
    writers = {"fall": _fall, "stack": _stack, "push": _push}
    action = writers.get(scenario, _travel)(scene, recording, camera.start, rng)
    table, moves = article(look.table_name), camera.sentence()
    wording = rng.integers(3)
    if wording == 0:
        sentence = f"{action} on {table}; {moves}"
    elif wording == 1:
        sentence = f"on {table}, {action}; {moves}"
    else:
        sentence = f"{moves} as {action} on {table}"
    return sentence[0].upper() + sentence[1:] + "."


def describe_frozen(scene: Scene, look: Look) -> str:
    """A sentence for a single picture held still."""
    names = listing([article(body.name) for body in scene.bodies])
    return f"A motionless view of {names} at {article(look.table_name)}; the camera is still."


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listing(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def direction(displacement: np.ndarray, view: View) -> str:
    """Where a horizontal displacement in metres points in the picture."""
    right, _, forward = view.axes()
    ahead = forward * (1, 1, 0) / np.linalg.norm(forward[:2])
    sideways, away = float(displacement @ right), float(displacement @ ahead)
    if abs(sideways) >= abs(away):
        return "to the right" if sideways > 0 else "to the left"
    return "away from the camera" if away > 0 else "towards the camera"


def heading(recording: Recording, body: int) -> np.ndarray:
    """Displacement of a body until it first meets another, or over the first second."""
    met = [f for f, a, b in recording.contacts if b >= PADDLE and b != TABLE and body in (a, b)]
    path = recording.positions[:, body]
    until = min([24, len(path) - 1, *(frame for frame in met if frame > 2)])
    displacement: np.ndarray = (path[until] - path[0]) * (1, 1, 0)
    return displacement


def _verb(body: Body, rng: np.random.Generator) -> str:
    return str(rng.choice(SLIDES)) if body.shape == "box" else "rolls"


def _travel(scene: Scene, recording: Recording, view: View, rng: np.random.Generator) -> str:
    """Bodies that roll or slide, the first meeting of two, and who stands by."""
    bodies = scene.bodies
    moves = [heading(recording, index) for index in range(len(bodies))]
    movers = [i for i, body in enumerate(bodies) if np.linalg.norm(body.velocity) > 0]
    clauses = [
        f"{article(bodies[i].name)} {_verb(bodies[i], rng)} {direction(moves[i], view)}"
        for i in movers
    ]
    meetings = [(a, b) for _, a, b in recording.contacts if b >= 0]
    if meetings:
        clauses.append(_meeting(bodies, movers, meetings[0], rng))
    path = recording.positions
    still = [
        article(body.name)
        for i, body in enumerate(bodies)
        if np.linalg.norm(path[:, i] - path[0, i], axis=-1).max() < STOOD
    ]
    if still:
        clauses.append(f"{listing(still)} {'stand' if len(still) > 1 else 'stands'} still")
    return listing(clauses)


def _meeting(
    bodies: Sequence[Body], movers: list[int], pair: tuple[int, int], rng: np.random.Generator
) -> str:
    first, second = sorted(pair, key=lambda index: (index not in movers, index))
    if second in movers:
        return f"the {bodies[first].name} and the {bodies[second].name} {rng.choice(MEETS)}"
    return f"the {bodies[first].name} {rng.choice(HITS)} {article(bodies[second].name)}"


def _fall(scene: Scene, recording: Recording, view: View, rng: np.random.Generator) -> str:
    heights = recording.positions[..., 2]
    names, bounced = [], []
    for index, body in enumerate(scene.bodies):
        lowest = int(heights[:, index].argmin())
        if heights[0, index] - heights[lowest, index] < MOVED:
            continue
        names.append(article(body.name))
        landed = [f for f, a, b in recording.contacts if (a, b) == (index, TABLE)]
        if landed:
            after = heights[landed[0] :, index]
            rise = float((after - np.minimum.accumulate(after)).max())
            if rise > MOVED:
                bounced.append(f"the {body.name}")
    verbs = (("falls", "fall"), ("drops", "drop"), ("tumbles down", "tumble down"))
    clause = f"{listing(names)} {verbs[rng.integers(len(verbs))][len(names) > 1]}"
    if bounced:
        clause += f" and {listing(bounced)} {'bounce' if len(bounced) > 1 else 'bounces'}"
    return clause


def _stack(scene: Scene, recording: Recording, view: View, rng: np.random.Generator) -> str:
    """The last body is the ball that rolls; the others are the tower, from the bottom up."""
    *tower, ball = scene.bodies
    path, last = recording.positions, len(tower)
    names = [article(body.name) for body in tower]
    halves = [float(world_half_extents(body)[2]) for body in tower]
    stacked_height = 2 * sum(halves) - halves[-1]
    stands = path[-1, last - 1, 2] > stacked_height - 0.15
    touched = any(a == last and 0 <= b < last for _, a, b in recording.contacts)
    rolls = f"{article(ball.name)} rolls {direction(heading(recording, last), view)}"
    if path[0, last - 1, 2] < stacked_height + 0.15:
        pile = f"a {rng.choice(['tower', 'stack', 'pile'])} of {listing(names)}"
        if not touched:
            return f"{rolls} past {pile}"
        return f"{rolls} into {pile}, which {'stays up' if stands else 'topples over'}"
    dropped, verb = names[1:], "drops" if len(names) == 2 else "drop"
    ending = "forming a tower" if stands else "and the pile tumbles down"
    return f"{listing(dropped)} {verb} onto {names[0]}, {ending}, while {rolls}"


def _push(scene: Scene, recording: Recording, view: View, rng: np.random.Generator) -> str:
    assert scene.paddle is not None
    towards = direction(np.asarray(scene.paddle.velocity), view)
    pushed = sorted({a for _, a, b in recording.contacts if b == PADDLE})
    if not pushed:
        return f"a grey board sweeps {towards}"
    names = listing([article(scene.bodies[index].name) for index in pushed])
    return f"a grey board {rng.choice(['pushes', 'shoves', 'sweeps'])} {names} {towards}"
