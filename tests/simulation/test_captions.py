import numpy as np
import pytest

from openwfm.simulation.bodies import Body
from openwfm.simulation.camera import CameraPath, View
from openwfm.simulation.captions import article, describe, describe_frozen, direction, listing
from openwfm.simulation.looks import Look
from openwfm.simulation.scenarios import Paddle, Scene
from openwfm.simulation.stage import PADDLE, TABLE, Recording

# Looks along +y: the picture's right is +x.
CAMERA = CameraPath(
    start=View(target=(0, 0, 0), distance=8, azimuth=90, elevation=-30), motion="pan", rate=-0.2
)
LOOK = Look(
    table="grey",
    pattern="checker",
    texture=np.zeros((2, 2, 3)),
    background=(0, 0, 0),
    light=(0, 0, -1),
    brightness=1,
)


def body(colour: str, x: float, z: float = 0.5, vx: float = 0.0, shape: str = "sphere") -> Body:
    size = (0.5, 0.5, 0.5)
    return Body(shape=shape, size=size, colour=colour, position=(x, 0, z), velocity=(vx, 0, 0))


def caption(
    scenario: str,
    bodies: list[Body],
    paths: dict[int, np.ndarray],
    contacts: list[tuple[int, int, int]],
    paddle: Paddle | None = None,
) -> list[str]:
    """The caption in several wordings, in lower case; ``paths`` are x or z over 40 frames."""
    positions = np.tile([b.position for b in bodies], (40, 1, 1)).astype(float)
    for index, path in paths.items():
        positions[:, index, 2 if scenario in ("fall", "stack") else 0] = path
    recording = Recording(positions=positions, contacts=tuple(contacts))
    scene = Scene(bodies=tuple(bodies), paddle=paddle)
    wordings = {
        describe(scenario, scene, recording, LOOK, CAMERA, np.random.default_rng(seed))
        for seed in range(12)
    }
    assert len(wordings) > 2
    for sentence in wordings:
        assert sentence.endswith(".")
        assert sentence[0].isupper()
        assert "a grey checkered table" in sentence
        assert "camera slides slowly to the left" in sentence
    return [sentence.lower() for sentence in wordings]


@pytest.mark.parametrize(
    "azimuth, words",
    [(90, "to the right"), (270, "to the left"), (0, "away from the camera")],
)
def test_directions_are_those_of_the_picture(azimuth: float, words: str) -> None:
    view = View(target=(0, 0, 0), distance=8, azimuth=azimuth, elevation=-30)
    assert direction(np.array([1.0, 0.2, 0.0]), view) == words


def test_a_ball_rolls_and_hits_a_box() -> None:
    bodies = [body("red", -1.5, vx=1.5), body("blue", 0.5, shape="box")]
    path = np.concatenate([np.linspace(-1.5, -0.5, 16), np.full(24, -0.5)])
    moved = np.concatenate([np.full(16, 0.5), np.linspace(0.5, 1.0, 24)])
    for text in caption("roll", bodies, {0: path, 1: moved}, [(0, 0, TABLE), (16, 1, 0)]):
        assert "a red ball rolls to the right" in text
        assert any(f"red ball {v} a blue box" in text for v in ("hits", "bumps", "strikes")) or (
            "the red ball runs into a blue box" in text or "bumps into a blue box" in text
        )
        assert "stand" not in text


def test_nobody_is_hit_when_there_is_no_contact() -> None:
    bodies = [body("orange", -1.5, vx=1.5), body("blue", 0.5, shape="box")]
    for text in caption("roll", bodies, {0: np.linspace(-1.5, 0, 40)}, [(0, 0, TABLE)]):
        assert "an orange ball rolls to the right" in text
        assert "a blue box stands still" in text
        assert not any(word in text for word in ("hits", "into", "strikes", "collide"))


def test_what_falls_and_what_bounces() -> None:
    bodies = [body("red", 0, 3.0), body("green", 1, 2.0), body("blue", 2, 0.5)]
    bounced = np.concatenate([np.linspace(3, 0.5, 20), np.linspace(0.5, 1.5, 20)])
    landed = np.concatenate([np.linspace(2, 0.5, 15), np.full(25, 0.5)])
    contacts = [(0, 2, TABLE), (14, 1, TABLE), (19, 0, TABLE)]
    for text in caption("fall", bodies, {0: bounced, 1: landed}, contacts):
        assert "a red ball and a green ball " in text
        assert "and the red ball bounces" in text
        assert "blue" not in text


@pytest.mark.parametrize("falls", [True, False])
def test_towers_topple_only_if_their_top_comes_down(falls: bool) -> None:
    bodies = [body("red", 0, 0.5, shape="box"), body("green", 0, 1.5, shape="box")]
    bodies.append(body("blue", -2, 0.5, vx=3.0))
    top = np.linspace(1.5, 0.5 if falls else 1.5, 40)
    contacts = [(0, 1, 0), (10, 2, 0)]
    for text in caption("stack", bodies, {1: top}, contacts):
        assert ("topples over" in text) == falls
        assert ("stays up" in text) != falls
        assert "of a red box and a green box" in text


def test_the_board_pushes_only_what_it_touches() -> None:
    bodies = [body("red", -1), body("green", 1)]
    paddle = Paddle(start=(-2, 0, 0.4), velocity=(-1, 0, 0), seconds=2, yaw=0)
    contacts = [(0, 0, TABLE), (5, 0, PADDLE)]
    for text in caption("push", bodies, {}, contacts, paddle):
        assert "a red ball to the left" in text
        assert "green" not in text


def test_frozen_pictures_say_that_nothing_moves() -> None:
    text = describe_frozen(Scene(bodies=(body("red", 0), body("orange", 1))), LOOK)
    assert text == (
        "A motionless view of a red ball and an orange ball at a grey checkered table; "
        "the camera is still."
    )


def test_grammar() -> None:
    assert [article("orange ball"), article("red ball")] == ["an orange ball", "a red ball"]
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert listing(["a"]) == "a"
