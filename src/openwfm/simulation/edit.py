"""The editor: which shots a film has, how they follow each other, and the answer sheet.

Everything here is a pure function of numbers; nothing renders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openwfm.randomness import derive_seed, numpy_generator
from openwfm.simulation.camera import MOTIONS
from openwfm.simulation.scenarios import SCENARIOS

NORMAL = "normal"
DEFECTS = ("title", "frozen", "duplicate", "black")
DEFECT_SHARE, DISSOLVE_SHARE = 0.12, 0.06
SHOT_SECONDS, TITLE_SECONDS = (2.1, 3.3), 2.0
MIN_SHOTS, MAX_SHOTS = 8, 14
# Four defects apart from each other leave two neighbours to dissolve in ten shots, not in nine.
MIN_SHOTS_ALONE = 10
DISSOLVE_FRAMES = 12


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One shot: its content is a function of ``scenario``, ``camera``, ``seed`` and ``look``.

    ``source`` is the (take, shot) that a duplicate repeats.
    """

    kind: str
    scenario: str
    camera: str
    seed: int
    look: int
    num_frames: int
    source: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Take:
    """``dissolves[i]``: shot i fades into shot i + 1; else a hard cut."""

    index: int
    shots: tuple[Shot, ...]
    dissolves: tuple[bool, ...]

    def spans(self) -> list[tuple[int, int]]:
        """First and one past the last frame of each shot; a dissolve makes two of them overlap."""
        spans, start = [], 0
        for shot, fades in zip(self.shots, (*self.dissolves, False), strict=True):
            spans.append((start, start + shot.num_frames))
            start += shot.num_frames - (DISSOLVE_FRAMES if fades else 0)
        return spans

    @property
    def num_frames(self) -> int:
        return self.spans()[-1][1]


def plan_footage(*, num_takes: int, seed: int, fps: int) -> tuple[Take, ...]:
    """The takes of a film. There is at least one of each defect and one dissolve in all."""
    rng = numpy_generator(seed, "footage plan")
    fewest = MIN_SHOTS if num_takes > 1 else MIN_SHOTS_ALONE
    counts = rng.integers(fewest, MAX_SHOTS + 1, num_takes).tolist()
    takes = [_plan_shots(rng, i, count, seed, fps) for i, count in enumerate(counts)]
    slots = _defect_slots(rng, takes)
    wanted = round(DEFECT_SHARE * sum(len(shots) for shots in takes))
    slots = slots[: max(len(DEFECTS), wanted)]
    for number, (take, shot) in enumerate(slots):
        kind = DEFECTS[number % len(DEFECTS)]
        if kind != "duplicate":
            changed = replace(takes[take][shot], kind=kind)
            if kind == "title":
                changed = replace(changed, num_frames=round(TITLE_SECONDS * fps))
            takes[take][shot] = changed
    for take, shot in slots[DEFECTS.index("duplicate") :: len(DEFECTS)]:
        takes[take][shot] = _duplicate(rng, takes, take, shot, set(slots))
    dissolves = _plan_dissolves(rng, takes)
    return tuple(
        Take(index=index, shots=tuple(shots), dissolves=tuple(fades))
        for index, (shots, fades) in enumerate(zip(takes, dissolves, strict=True))
    )


def _plan_shots(rng: np.random.Generator, take: int, count: int, seed: int, fps: int) -> list[Shot]:
    shots: list[Shot] = []
    order: list[str] = []
    for index in range(count):
        order = order or [str(name) for name in rng.permutation(list(SCENARIOS))]
        own = derive_seed(seed, "shot", take, index)
        stays = bool(shots) and rng.random() < 0.3
        shots.append(
            Shot(
                kind=NORMAL,
                scenario=order.pop(),
                camera="still" if rng.random() < 0.5 else str(rng.choice(MOTIONS[1:])),
                seed=own,
                look=shots[-1].look if stays else derive_seed(own, "look"),
                num_frames=round(float(rng.uniform(*SHOT_SECONDS)) * fps),
            )
        )
    return shots


def _defect_slots(rng: np.random.Generator, takes: list[list[Shot]]) -> list[tuple[int, int]]:
    """Places in random order, every second shot of each take, so that no two are neighbours."""
    slots = [
        (take, shot)
        for take, shots in enumerate(takes)
        for shot in range(int(rng.integers(2)), len(shots), 2)
    ]
    return [slots[place] for place in rng.permutation(len(slots))]


def _duplicate(
    rng: np.random.Generator,
    takes: list[list[Shot]],
    take: int,
    shot: int,
    taken: set[tuple[int, int]],
) -> Shot:
    """A repeat of a normal shot, of another take if there is one and never of a neighbour."""
    sources = [
        (i, j)
        for i, shots in enumerate(takes)
        for j in range(len(shots))
        if (i, j) not in taken and (i != take or (len(takes) == 1 and abs(j - shot) > 1))
    ]
    source = sources[int(rng.integers(len(sources)))]
    return replace(takes[source[0]][source[1]], kind="duplicate", source=source)


def _plan_dissolves(rng: np.random.Generator, takes: list[list[Shot]]) -> list[list[bool]]:
    places = [
        (take, cut)
        for take, shots in enumerate(takes)
        for cut in range(len(shots) - 1)
        if shots[cut].kind == shots[cut + 1].kind == NORMAL
    ]
    cuts = sum(len(shots) - 1 for shots in takes)
    chosen = rng.permutation(len(places))[: max(1, round(DISSOLVE_SHARE * cuts))]
    dissolves = [[False] * (len(shots) - 1) for shots in takes]
    for place in chosen:
        take, cut = places[place]
        dissolves[take][cut] = True
    return dissolves


def edited(take: Take, shots: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames ``h w c`` of the take from its shots' frames ``t h w c``, one shot in memory."""
    tail: np.ndarray | None = None
    planned = zip(take.shots, (*take.dissolves, False), strict=True)
    for frames, (shot, fades) in zip(shots, planned, strict=True):
        assert len(frames) == shot.num_frames
        if tail is not None:
            yield from dissolve(tail, frames[:DISSOLVE_FRAMES])
            frames = frames[DISSOLVE_FRAMES:]
        if fades:
            frames, tail = frames[:-DISSOLVE_FRAMES], frames[-DISSOLVE_FRAMES:]
        else:
            tail = None
        yield from frames


def dissolve(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Linear cross-fade of two runs of frames ``t h w c``; neither end is pure."""
    share = (np.arange(1, len(after) + 1) / (len(after) + 1))[:, None, None, None]
    return np.rint((1 - share) * before + share * after).astype(np.uint8)


def answers(take: Take, fps: int) -> dict[str, Any]:
    """The truth about a take, for tests and benchmarks of shot detection and filtering."""
    spans = take.spans()
    cuts = [start for (start, _), fades in zip(spans[1:], take.dissolves, strict=True) if not fades]
    fades = [
        (start, start + DISSOLVE_FRAMES)
        for (start, _), fades in zip(spans[1:], take.dissolves, strict=True)
        if fades
    ]
    shots = []
    for shot, (start, end) in zip(take.shots, spans, strict=True):
        entry = {
            "start": start,
            "end": end,
            "kind": shot.kind,
            "scenario": None if shot.kind == "title" else shot.scenario,
            "camera": "still" if shot.kind in ("title", "frozen") else shot.camera,
            "seed": shot.seed,
        }
        if shot.source is not None:
            entry["duplicate_of"] = {"take": shot.source[0], "shot": shot.source[1]}
        shots.append(entry)
    return {
        "take": take.index,
        "fps": fps,
        "num_frames": take.num_frames,
        "cuts": cuts,
        "dissolves": fades,
        "shots": shots,
    }
