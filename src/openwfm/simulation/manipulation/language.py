"""Instructions in varied wording, and captions that are true of what the simulator recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openwfm.simulation.captions import article, listing
from openwfm.simulation.looks import Look
from openwfm.simulation.manipulation.scene import Scene
from openwfm.simulation.manipulation.simulator import Truth
from openwfm.simulation.manipulation.tasks import DRAWER_OPEN, in_cup, is_done

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "reach": (
        "Reach for the {block}",
        "Move the gripper above the {block}",
        "Hover over the {block}",
        "Go to the {block} and stay above it",
        "Point the gripper at the {block} from above",
    ),
    "push": (
        "Push the {block} onto the {mark}",
        "Slide the {block} to the {mark}",
        "Shove the {block} over to the {mark}",
        "Move the {block} to the {mark} without lifting it",
        "Nudge the {block} until it is on the {mark}",
    ),
    "pick_and_place": (
        "Put the {block} in the {cup}",
        "Pick up the {block} and place it in the {cup}",
        "Drop the {block} into the {cup}",
        "Take the {block} and put it into the {cup}",
        "Place the {block} inside the {cup}",
    ),
    "open_drawer": (
        "Open the drawer",
        "Pull the drawer open",
        "Pull the handle until the drawer is open",
        "Slide the drawer out",
    ),
    "play": (
        "Play with the things on the table",
        "Explore the table",
        "Move the gripper about and try things",
        "Do whatever you like on the table",
    ),
}
SEEN = (
    "A robot arm works at {table} with {things}.",
    "On {table} there {verb} {things}, and a robot arm with a gripper.",
    "{things} {verb} on {table} in front of a robot arm.",
)
MOVED, LIFTED, AJAR = 0.02, 0.03, 0.02  # metres


def instruction(scene: Scene, rng: np.random.Generator) -> str:
    """What the robot is told, without a full stop. ``rng`` chooses the wording."""
    wordings = INSTRUCTIONS[scene.task]
    return wordings[rng.integers(len(wordings))].format(
        block=scene.blocks[scene.target].name,
        cup=scene.cup_name if scene.cup else "",
        mark=scene.mark_name if scene.mark else "",
    )


def describe(scene: Scene, look: Look, truths: Sequence[Truth], rng: np.random.Generator) -> str:
    """Two sentences: what stands there at the first frame, and how it ended at the last."""
    things = [article(block.name) for block in scene.blocks]
    things += [article(scene.cup_name)] if scene.cup else []
    things += [article(scene.mark_name)] if scene.mark else []
    if scene.cabinet:
        opened = scene.drawer > AJAR
        things.append(f"a chest with {'an open' if opened else 'a closed'} drawer")
    sentence = SEEN[rng.integers(len(SEEN))].format(
        table=article(look.table_name),
        things=listing(things),
        verb="is" if len(things) == 1 else "are",
    )
    return f"{sentence[0].upper()}{sentence[1:]} {_outcome(scene, truths)}"


def _outcome(scene: Scene, truths: Sequence[Truth]) -> str:
    last, block = truths[-1], scene.blocks[scene.target].name
    if scene.task == "reach":
        stops = "stops above" if is_done(scene, last) else "does not end up above"
        return f"The gripper {stops} the {block}."
    if scene.task == "push":
        if is_done(scene, last):
            return f"The {block} ends up on the {scene.mark_name}."
        if scene.target in moved_blocks(scene, truths):
            return f"The {block} is moved, but not to the middle of the {scene.mark_name}."
        return f"The {block} stays where it is."
    if scene.task == "pick_and_place":
        if in_cup(scene, last, scene.target):
            return f"The {block} ends up in the {scene.cup_name}."
        lifted = is_lifted(scene, truths)
        return f"The {block} is {'' if lifted else 'not '}lifted" + (
            f", but does not end up in the {scene.cup_name}." if lifted else "."
        )
    if scene.task == "open_drawer":
        return f"At the end the drawer is {drawer_word(last.drawer)}."
    moved = [f"the {scene.blocks[i].name}" for i in moved_blocks(scene, truths)]
    if abs(last.drawer - truths[0].drawer) > MOVED:
        moved.append("the drawer")
    return f"The gripper moves {listing(moved)}." if moved else "The gripper moves nothing."


def moved_blocks(scene: Scene, truths: Sequence[Truth]) -> list[int]:
    """Blocks that end more than two centimetres from where they began."""
    way = truths[-1].positions - truths[0].positions
    distance = np.linalg.norm(way[: len(scene.blocks)], axis=1)
    return [int(index) for index in np.nonzero(distance > MOVED)[0]]


def is_lifted(scene: Scene, truths: Sequence[Truth]) -> bool:
    """The target was at some frame three centimetres higher than at the first."""
    heights = [truth.positions[scene.target][2] for truth in truths]
    return bool(max(heights) - heights[0] > LIFTED)


def drawer_word(opening: float) -> str:
    """``opening`` in metres."""
    if opening > DRAWER_OPEN:
        return "wide open"
    if opening > AJAR:
        return "partly open"
    return "closed" if opening < 0.012 else "open by a crack"
