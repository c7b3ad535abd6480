import numpy as np
import pytest

from openwfm.simulation.bodies import COLOURS, SHAPES, Body
from openwfm.simulation.camera import CameraPath, View, draw_camera
from openwfm.simulation.captions import direction, heading
from openwfm.simulation.looks import draw_look
from openwfm.simulation.scenarios import SCENARIOS, Scene, draw_scene
from openwfm.simulation.stage import TABLE, Stage

RED_LOOK_SEED = 3


def fixed(azimuth: float, elevation: float = -35.0) -> CameraPath:
    view = View(target=(0.1, -0.2, 0.3), distance=8.0, azimuth=azimuth, elevation=elevation)
    return CameraPath(start=view, motion="still", rate=0.0)


def red_centre(frame: np.ndarray) -> np.ndarray:
    """Centre of the red pixels in picture coordinates: x right, y up, in [-1, 1]."""
    red, green, blue = frame.astype(int).transpose(2, 0, 1)
    rows, columns = np.nonzero((red > 2 * green) & (red > 2 * blue) & (red > 40))
    assert len(rows) > 10
    size = len(frame)
    return np.array([2 * (columns.mean() + 0.5) / size - 1, 1 - 2 * (rows.mean() + 0.5) / size])


def grey_look():  # type: ignore[no-untyped-def]
    seeds = (draw_look(np.random.default_rng(seed)) for seed in range(100))
    return next(look for look in seeds if look.table == "grey")


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 200.0, 310.0])
def test_bodies_appear_where_the_view_projects_them(stage: Stage, azimuth: float) -> None:
    for position in ((1.0, 0.5, 0.5), (-1.2, 0.3, 1.5), (0.2, -1.4, 0.9)):
        ball = Body(shape="sphere", size=(0.4, 0, 0), colour="red", position=position)
        frames, recording = stage.film(Scene(bodies=(ball,)), grey_look(), fixed(azimuth), 1)
        np.testing.assert_allclose(recording.positions[0, 0], position)
        expected = fixed(azimuth).start.project(np.asarray(position))
        np.testing.assert_allclose(red_centre(frames[0]), expected, atol=0.05)


@pytest.mark.parametrize("azimuth", [0.0, 45.0, 90.0, 180.0, 225.0, 290.0])
def test_a_rolling_balls_direction_is_what_the_picture_shows(stage: Stage, azimuth: float) -> None:
    ball = Body(
        shape="sphere",
        size=(0.5, 0, 0),
        colour="red",
        position=(-1.5, 0.3, 0.5),
        velocity=(1.5, 0.0, 0.0),
        spin=(0.0, 3.0, 0.0),
        friction=0.4,
    )
    camera = fixed(azimuth)
    frames, recording = stage.film(Scene(bodies=(ball,)), grey_look(), camera, 30)
    right, up = red_centre(frames[24]) - red_centre(frames[0])
    said = direction(heading(recording, 0), camera.start)
    if "right" in said or "left" in said:
        assert (right > 0.1) == (said == "to the right")
    else:
        assert (up > 0.05) == (said == "away from the camera")
    # It rolls at a constant speed: nothing brakes it, and it has not slipped.
    speeds = np.diff(recording.positions[:, 0, 0]) * 24
    np.testing.assert_allclose(speeds, 1.5, rtol=0.03)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bounce", [0.2, 0.6])
def test_bodies_bounce_as_told(stage: Stage, shape: str, bounce: float) -> None:
    size = (0.5, 0.5, 0.5) if shape in ("box", "ellipsoid") else (0.5, 0.4, 0.0)
    body = Body(
        shape=shape, size=size, colour="red", position=(0, 0, 2.0), bounce=bounce, friction=0.2
    )
    _, recording = stage.film(Scene(bodies=(body,)), grey_look(), fixed(0), 60)
    speeds = np.diff(recording.positions[:, 0, 2]) * 24
    [landed] = [frame for frame, _, other in recording.contacts if other == TABLE]
    rebound = speeds[landed : landed + 5].max() / -speeds[:landed].min()
    assert rebound == pytest.approx(bounce, abs=0.17)
    resting = {"capsule": 0.9, "cylinder": 0.4}.get(shape, 0.5)
    assert recording.positions[-1, 0, 2] > resting - 0.06


def test_a_film_does_not_depend_on_what_was_filmed_before(stage: Stage) -> None:
    def film(scenario: str) -> tuple[np.ndarray, object]:
        rng = np.random.default_rng(5)
        scene = draw_scene(rng, scenario)
        camera = draw_camera(rng, "orbit", scene.height)
        return stage.film(scene, draw_look(rng), camera, 20)

    before = {name: film(name) for name in SCENARIOS}
    for name in reversed(SCENARIOS):
        frames, recording = film(name)
        np.testing.assert_array_equal(frames, before[name][0])
        assert recording.contacts == before[name][1].contacts  # type: ignore[attr-defined]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_something_moves_all_the_time_but_nothing_flies_off(stage: Stage, scenario: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, scenario)
        camera = draw_camera(rng, "still", scene.height)
        frames, recording = stage.film(scene, draw_look(rng), camera, 60)
        changes = np.abs(np.diff(frames.astype(int), axis=0)).max(axis=(1, 2, 3))
        assert (changes > 8).mean() > 0.9
        speeds = np.linalg.norm(np.diff(recording.positions, axis=0), axis=-1) * 24
        assert speeds.max() < 8
        assert np.abs(recording.positions[..., :2]).max() < 3.0
        assert recording.positions[..., 2].min() > 0.2


def test_two_renderers_do_not_disturb_each_other(backend: str) -> None:
    def film(stage: Stage) -> np.ndarray:
        rng = np.random.default_rng(1)
        return stage.film(draw_scene(rng, "roll"), draw_look(rng), fixed(30), 2)[0]

    first = Stage(size=32, supersample=1, fps=24, backend=backend)
    second = Stage(size=32, supersample=2, fps=24, backend=backend)
    expected = film(second)
    first.close()
    first.close()
    np.testing.assert_array_equal(film(second), expected)
    second.close()


def test_colours_are_shown(stage: Stage) -> None:
    for name, colour in COLOURS.items():
        box = Body(shape="box", size=(0.9, 0.9, 0.5), colour=name, position=(0, 0, 0.5))
        frames, _ = stage.film(Scene(bodies=(box,)), grey_look(), fixed(20, -80), 1)
        shown = frames[0][30:34, 30:34].reshape(-1, 3).mean(0)
        likeness = shown @ colour / np.linalg.norm(shown) / np.linalg.norm(colour)
        assert likeness > 0.97, name
