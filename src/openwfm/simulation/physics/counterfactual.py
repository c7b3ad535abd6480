"""The same scene with exactly one property changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from openwfm.simulation.bodies import COLOURS, half_extents, rotate_back
from openwfm.simulation.physics.scene import Piece, Scene, vector

GRAVITIES = {"moon": 1.62, "mars": 3.71, "jupiter": 24.79}
MASS_FACTORS, SPIN_FACTORS, SIZE_FACTORS = (0.2, 0.4, 2.5, 5.0), (0.5, 1.6, 2.0), (0.75, 1.3)


def alter(scene: Scene, prop: str, rng: np.random.Generator) -> tuple[Scene, dict[str, Any]]:
    """The changed scene, and what was changed: property, body (``world`` for gravity), value
    before and after. ``prop`` is a key of ``COUNTERFACTUALS`` that fits the scenario."""
    if prop == "gravity":
        place = str(rng.choice(list(GRAVITIES)))
        changed = replace(scene, gravity=GRAVITIES[place])
        return changed, _change(prop, "world", scene.gravity, changed.gravity)
    if scene.wheel is not None:
        return _alter_wheel(scene, prop, rng)
    # The last piece is the top of a stack, the last domino or the ball that starts the row.
    last = len(scene.pieces) - 1
    slot = last if scene.scenario.endswith("stack") else int(rng.integers(len(scene.pieces)))
    old = scene.pieces[slot]
    new, before, after = _alter_piece(old, prop, {p.body.colour for p in scene.pieces}, rng)
    pieces = (*scene.pieces[:slot], new, *scene.pieces[slot + 1 :])
    return replace(scene, pieces=pieces), _change(prop, old.name, before, after)


def _change(prop: str, body: str, before: Any, after: Any) -> dict[str, Any]:
    return {"property": prop, "body": body, "before": before, "after": after}


def _alter_wheel(scene: Scene, prop: str, rng: np.random.Generator) -> tuple[Scene, dict[str, Any]]:
    wheel = scene.wheel
    assert wheel is not None
    key, factors = {
        "mass": ("mass", MASS_FACTORS), "size": ("radius", SIZE_FACTORS),
        "spin": ("spin", SPIN_FACTORS), "colour": ("colour", ()),
    }[prop]  # fmt: skip
    before: Any = getattr(wheel, key)
    if prop == "colour":
        after: Any = _other_colour({before, *(p.body.colour for p in scene.pieces)}, rng)
    else:
        after = before * float(rng.choice(factors))
    changed = replace(scene, wheel=replace(wheel, **{key: after}))
    return changed, _change(prop, wheel.name, before, after)


def _alter_piece(
    piece: Piece, prop: str, colours: set[str], rng: np.random.Generator
) -> tuple[Piece, Any, Any]:
    body = piece.body
    if prop == "mass":
        factor = float(rng.choice(MASS_FACTORS))
        return (
            replace(piece, body=replace(body, density=body.density * factor)),
            piece.mass,
            piece.mass * factor,
        )
    if prop == "size":
        return _resized(piece, float(rng.choice(SIZE_FACTORS)))
    if prop == "position":
        moved = np.asarray(body.position) + float(rng.choice([0.08, 0.12])) * np.asarray(
            piece.along
        )
        new = replace(piece, body=replace(body, position=vector(moved)))
        return new, list(body.position), list(new.body.position)
    if prop == "spin":
        spin = np.asarray(body.spin) + 8.0 * rng.choice([-1.0, 1.0]) * np.array([0.0, 0.6, 0.8])
        new = replace(piece, body=replace(body, spin=vector(spin)))
        return new, list(body.spin), list(new.body.spin)
    if prop == "colour":
        colour = _other_colour(colours, rng)
        return replace(piece, body=replace(body, colour=colour)), body.colour, colour
    if prop == "friction":
        friction = 1.2 if body.friction < 0.61 else 0.02
        return replace(piece, body=replace(body, friction=friction)), body.friction, friction
    assert prop == "bounce"
    bounce = 0.8 if body.bounce < 0.42 else 0.05
    return replace(piece, body=replace(body, bounce=bounce)), body.bounce, bounce


def _resized(piece: Piece, factor: float) -> tuple[Piece, list[float], list[float]]:
    """Of the same mass, and still resting on what it rests on."""
    body = piece.body
    size = vector(factor * np.asarray(body.size))
    normal = rotate_back(body.rotation, piece.support)
    reach = float(np.abs(normal) @ half_extents(body.shape, body.size))
    moved = np.asarray(body.position) + (factor - 1) * reach * np.asarray(piece.support)
    new = replace(body, size=size, position=vector(moved), density=body.density / factor**3)
    return replace(piece, body=new), list(body.size), list(size)


def _other_colour(taken: set[str], rng: np.random.Generator) -> str:
    free = sorted(set(COLOURS) - taken) or sorted(COLOURS)
    return str(rng.choice(free))
