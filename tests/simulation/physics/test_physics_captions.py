"""Sentences parsed back and held against the recorded state, without pictures."""

import re

import numpy as np
import pytest

from openwfm.simulation.lens import look_at
from openwfm.simulation.physics.captions import describe
from openwfm.simulation.physics.config import SCENARIOS
from openwfm.simulation.physics.recording import FLOOR, Recording
from openwfm.simulation.physics.scenarios import DRAWS
from openwfm.simulation.physics.scene import Scene
from openwfm.simulation.physics.simulator import Simulator

EYE = np.array([0.0, -2.0, 1.0])
POSE = look_at(EYE, np.zeros(3))


@pytest.fixture(scope="module")
def told() -> dict[str, list[tuple[Scene, Recording, str]]]:
    pytest.importorskip("mujoco")
    simulator = Simulator(24)
    result: dict[str, list[tuple[Scene, Recording, str]]] = {}
    for scenario in SCENARIOS:
        result[scenario] = []
        for seed in range(3):
            scene = DRAWS[scenario](np.random.default_rng(seed))
            recording = simulator.record(scene, 36)
            for wording in range(3):
                text = describe(
                    scene, recording, "grey striped floor", POSE, np.random.default_rng(wording)
                )
                result[scenario].append((scene, recording, text))
    return result


def named(scene: Scene, clause: str) -> list[int]:
    return [i for i, name in enumerate(scene.names) if re.search(rf"\b{name}\b", clause)]


def test_captions_are_sentences_that_name_only_what_is_there(
    told: dict[str, list[tuple[Scene, Recording, str]]],
) -> None:
    texts = [text for stories in told.values() for _, _, text in stories]
    assert len(set(texts)) > 0.75 * len(texts)
    for stories in told.values():
        for scene, _, text in stories:
            assert text[0].isupper() and text.endswith(".") and "  " not in text
            colours = set(
                re.findall(r"\b(?:red|green|blue|yellow|orange|purple|cyan|pink)\b", text.lower())
            )
            assert colours <= {name.split()[0] for name in scene.names}


def test_what_falls_loses_height_and_who_lands_first_does(
    told: dict[str, list[tuple[Scene, Recording, str]]],
) -> None:
    firsts = 0
    for scene, recording, text in told["free_fall"]:
        clause = re.split(r" (?:falls?|drops?|plunges?)\b", text.lower())[0]
        assert named(scene, clause)
        for i in named(scene, clause):
            assert recording.positions[0, i, 2] - recording.positions[:, i, 2].min() > 0.05
        match = re.search(r"the (\w+ \w+) (?:lands|arrives|hits it) first", text)
        if match:
            firsts += 1
            landed = [recording.first_contact(i, FLOOR) for i in range(len(scene.names))]
            frames = [frame for frame in landed if frame is not None]
            assert landed[scene.names.index(match[1])] == min(frames)
            assert frames.count(min(frames)) == 1
        match = re.search(r"; ([^;]*?) bounces?\b", text.replace("first; ", "first ;; "))
        for i in named(scene, match[1].split(";")[-1]) if match else []:
            landed_at = recording.first_contact(i, FLOOR)
            heights = recording.positions[landed_at:, i, 2]
            assert np.diff(heights).max() > 0
    assert firsts


def test_what_stays_on_a_slope_does_not_move_and_the_rest_goes_down(
    told: dict[str, list[tuple[Scene, Recording, str]]],
) -> None:
    for scene, recording, text in told["tilted_plane"]:
        going = re.split(r" while | rests? on ", text)[0] if " down a" in text else ""
        path = np.linalg.norm(recording.positions[-1] - recording.positions[0], axis=-1)
        for i in range(len(scene.names)):
            assert (path[i] > 0.05) == (i in named(scene, going)), text
        slid = re.search(r"(.*) slides? down", going)
        for i in named(scene, slid[1].split(" roll")[-1]) if slid else []:
            turned = np.linalg.norm(recording.spins[:12, i], axis=-1).max()
            assert turned < 12


def test_stacks_and_dominoes_end_as_told(
    told: dict[str, list[tuple[Scene, Recording, str]]],
) -> None:
    for scenario in ("stable_stack", "unstable_stack"):
        for scene, recording, text in told[scenario]:
            toppled = re.search(r"topples|collapses|tips over", text) is not None
            assert toppled == (scenario == "unstable_stack")
            down = re.search(r": (.*?) falls?\b", text)
            for i in named(scene, down[1]) if down else []:
                leaned = np.abs(recording.axes(i)[-1, 2]) < 0.85
                assert leaned or recording.positions[-1, i, 2] < recording.positions[0, i, 2] - 0.02
    for scene, recording, text in told["dominoes"]:
        row = [i for i, piece in enumerate(scene.pieces) if piece.noun == "domino"]
        lying = [i for i in row if recording.axes(i)[-1, 2] < 0.8]
        assert ("all of them fall" in text) == (len(lying) == len(row))
        # The camera looks along +y, so that +x is to the right.
        assert "to the right" in text or "all of them" not in text


def test_seesaws_and_wheels_turn_the_way_told(
    told: dict[str, list[tuple[Scene, Recording, str]]],
) -> None:
    for _, recording, text in told["seesaw"]:
        match = re.search(r"tips to the (left|right)", text)
        if match:
            right_end = recording.axes(recording.positions.shape[1] - 1, 0)[:, 2]
            peak = right_end[np.abs(right_end).argmax()]
            assert (peak < 0) == (match[1] == "right")
    for _, recording, text in told["gyroscope"]:
        path = recording.positions[:, -1]
        turn = path[0, 0] * path[6, 1] - path[0, 1] * path[6, 0]
        assert ("anticlockwise" in text) == (turn > 0)
