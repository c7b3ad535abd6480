"""Captions of a drive, one for each view: what the masks show there, and what the car does."""

from __future__ import annotations

from collections import Counter

import numpy as np

from openwfm.data.members import CameraTrack
from openwfm.simulation.captions import article, listing
from openwfm.simulation.driving.episodes import Episode
from openwfm.simulation.driving.model import MASK_NAMES
from openwfm.simulation.driving.rig import VIEWS
from openwfm.simulation.driving.traffic import RATE
from openwfm.simulation.driving.vehicles import KINDS
from openwfm.simulation.driving.weather import PHRASES
from openwfm.simulation.lens import project

MOST_VEHICLES = 3
VEHICLE_SHARE, THING_SHARE, SMALL_SHARE = 0.003, 0.02, 0.001  # of a picture, to be named
STANDING, SPEED_CHANGE = 0.3, 1.5  # m/s
BEND, TURN_CURVATURE = np.radians(6), 0.01  # roads bend by 1/160 at most
LOOKS = {
    "front": "ahead", "front_left": "to the front left", "front_right": "to the front right",
    "rear_left": "to the rear left", "rear_right": "to the rear right", "rear": "behind",
}  # fmt: skip
PLACES = {
    "city": ("in a city", "on a city street", "in town"),
    "suburb": ("in a suburb", "in a residential area", "on a suburban street"),
    "country": ("in the countryside", "on a country road", "between fields"),
}
FLAT = (MASK_NAMES.index("road"), MASK_NAMES.index("marking"))
COUNTS = ("no", "a", "two", "three")


def describe(
    episode: Episode, weather: str, masks: dict[str, np.ndarray], cameras: dict[str, CameraTrack],
    state: dict[str, np.ndarray], rng: np.random.Generator,
) -> dict[str, str]:  # fmt: skip
    """One sentence for each view; ``rng`` only chooses the wording."""
    does = motion(episode, state)
    captions = {}
    for view in VIEWS:
        place = str(rng.choice(PLACES[episode.setting]))
        when = str(rng.choice(PHRASES[weather]))
        labels = masks[view]
        things = vehicles_in(episode, labels, state) + things_in(episode, labels)
        if view == "front" and junction_in(episode, labels, cameras[view]):
            things.insert(0, "a junction")
        seen = listing(things or ["an empty road"])
        look, wording = LOOKS[view], rng.integers(3)
        if view == "front":
            sentence = (
                f"the car {does} {place} {when}, with {seen} in view",
                f"{when}, a car {does} {place}; {seen} can be seen ahead",
                f"front view from a car that {does} {place} {when}: {seen}",
            )[wording]
        else:
            sentence = (
                f"looking {look} from a car {place} {when}: {seen}, as the car {does}",
                f"{seen} can be seen {look} {when} while the car {does} {place}",
                f"{place} {when}, a car {does}; {look} there can be seen {seen}",
            )[wording]
        captions[view] = sentence[0].upper() + sentence[1:] + "."
    return captions


def motion(episode: Episode, state: dict[str, np.ndarray]) -> str:
    """What the car does while it is filmed, from its speeds and its path."""
    speeds, curvature = state["ego_speed"], state["ego_curvature"]
    if speeds.max() < STANDING:
        return f"stands still{_reason(episode)}"
    if speeds.min() < STANDING:
        if speeds[0] < STANDING:
            return "pulls away"
        again = " and drives off again" if speeds[-1] > 1 else ""
        return f"brakes to a stop{_reason(episode)}{again}"
    change = speeds[-1] - speeds[0]
    pace = ""
    if abs(change) > SPEED_CHANGE:
        pace = " and speeds up" if change > 0 else " and slows down"
    if episode.behaviour == "lane_change":
        before, after = _lanes(episode)
        return f"changes to the {'left' if after < before else 'right'} lane{pace}"
    if np.abs(curvature).max() > TURN_CURVATURE:
        return f"turns {'left' if curvature[np.abs(curvature).argmax()] > 0 else 'right'}"
    poses = state["ego_to_world"]
    turned = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    bend = turned[-1] - turned[0]
    if abs(bend) > BEND:
        return f"follows a bend to the {'left' if bend > 0 else 'right'}{pace}"
    return f"drives straight on{pace}"


def _lanes(episode: Episode) -> tuple[int, int]:
    """The lanes before and after a change, counted from the middle of the road."""
    route = episode.drivers[0].route
    low = episode.town.through(route.origin, route.lanes[0]).curve
    start = route.curve.at(route.turn)[0]
    stays = np.linalg.norm(low.points - start, axis=1).min() < 1
    low_lane, high_lane = route.lanes
    return (low_lane, high_lane) if stays else (high_lane, low_lane)


def _reason(episode: Episode) -> str:
    """Why it stands: the light, the sign, or the vehicle before it."""
    ego, flow = episode.drivers[0], episode.flow
    steps = episode.steps
    standing = steps[flow.speeds[steps, 0] < STANDING][0]
    front = ego.route.stop - flow.arcs[standing, 0] - ego.length / 2
    if 0 <= front < 6:
        control = episode.rules.control
        if control == "lights" and episode.rules.colour(ego.route.origin, standing / RATE) == "red":
            return " at a red light"
        return " at a stop sign" if control == "stop_signs" else " at the junction"
    return " behind other traffic" if front > 0 and np.isfinite(front) else ""


def vehicles_in(episode: Episode, labels: np.ndarray, state: dict[str, np.ndarray]) -> list[str]:
    """The largest vehicles in masks ``t h w``, with what they do seen from the car."""
    count = len(episode.drivers) - 1
    if not count:
        return []
    areas = np.array([(labels == len(MASK_NAMES) + i).sum((1, 2)) for i in range(count)])
    peak = areas.max(axis=1)
    named = [i for i in np.argsort(-peak) if peak[i] >= VEHICLE_SHARE * labels[0].size]
    doing = Counter(
        (_relation(state, int(i), areas[i]), episode.drivers[i + 1].colour,
         KINDS[episode.drivers[i + 1].kind].noun)
        for i in named[:MOST_VEHICLES]
    )  # fmt: skip
    phrases = []
    for (relation, colour, noun), number in doing.items():
        before, after = relation.split("…")
        words = f"{before}{colour} {noun}"
        if number > 1:
            words = f"{COUNTS[number]} {words}{'es' if noun.endswith('s') else 's'}"
        else:
            words = article(words)
        phrases.append(words + after)
    return phrases


def _relation(state: dict[str, np.ndarray], agent: int, areas: np.ndarray) -> str:
    """Words before and after the name of a vehicle, at the frame where it is largest."""
    speed = np.linalg.norm(state["agent_velocity"][:, agent], axis=-1)
    if speed[areas > 0].max() < STANDING:
        return "waiting …"
    frame = int(areas.argmax())
    pose = state["ego_to_world"][frame]
    local = pose[:3, :3].T @ (state["agent_centre"][frame, agent] - pose[:3, 3])
    turned = state["agent_yaw"][frame, agent] - np.arctan2(pose[1, 0], pose[0, 0])
    along = np.cos(turned)
    if along > 0.7:
        return "… in front" if local[0] > 5 else "… following" if local[0] < -5 else "… alongside"
    if along < -0.7:
        return "oncoming …" if local[0] > 0 else "… driving away"
    return "… crossing"


def things_in(episode: Episode, labels: np.ndarray) -> list[str]:
    """Buildings, trees, lights and signs in masks ``t h w``; one that could be many is not
    counted."""
    house = "building" if episode.setting == "city" else "house"
    found = []
    for name, noun, share in (
        ("building", house, THING_SHARE), ("tree", "tree", THING_SHARE),
        ("traffic light", "traffic light", SMALL_SHARE), ("stop sign", "stop sign", SMALL_SHARE),
    ):  # fmt: skip
        mask = labels == MASK_NAMES.index(name)
        if mask.mean(axis=(1, 2)).max() < share:
            continue
        columns = np.pad(mask.any(axis=1), ((0, 0), (1, 1))).astype(int)
        runs = (np.diff(columns, axis=1) == 1).sum(axis=1).max()
        many = runs > 1 and noun != "stop sign"
        found.append(f"{noun}s" if many else article(noun))
    return found


def junction_in(episode: Episode, labels: np.ndarray, track: CameraTrack) -> bool:
    """Whether the middle of a junction is in the picture, near and not hidden."""
    if not episode.town.junction:
        return False
    height, width = labels.shape[1:]
    for frame in range(len(labels)):
        pose = track.camera_to_world[frame]
        column, row, depth = project(np.zeros((1, 3)), track.intrinsics[frame], pose)[0]
        inside = 3 < depth < 60 and 0 <= column < width and 0 <= row < height
        if inside and labels[frame, int(row), int(column)] in FLAT:
            return True
    return False
