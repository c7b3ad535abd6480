"""Drives: what was promised happens, within the rules and the laws of motion."""

import numpy as np
import pytest

from openwfm.simulation.driving.boxes import corners
from openwfm.simulation.driving.config import BEHAVIOURS
from openwfm.simulation.driving.episodes import Episode, collisions, draw_episode
from openwfm.simulation.driving.traffic import RATE
from openwfm.simulation.driving.vehicles import KINDS

SEEDS = range(4)


def draw(behaviour: str, seed: int, fps: int = 10, num_frames: int = 33) -> Episode:
    rng = np.random.default_rng((seed, BEHAVIOURS.index(behaviour)))
    return draw_episode(rng, behaviour, fps=fps, num_frames=num_frames, max_agents=12)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return [draw(behaviour, seed) for behaviour in BEHAVIOURS for seed in SEEDS]


def shown(episode: Episode) -> np.ndarray:
    """Steps from the first frame to the end of the trajectory."""
    return np.arange(episode.first, episode.steps[-1] + 65 * 3)


def test_nobody_speeds_and_nobody_leaves_the_road(episodes: list[Episode]) -> None:
    for episode in episodes:
        steps = shown(episode)
        assert episode.flow.speeds[steps].max() <= episode.limit
        assert episode.flow.speeds.min() >= 0
        points, headings, _ = episode.poses(steps[::6])
        for index, driver in enumerate(episode.drivers):
            length, width, height = KINDS[driver.kind].size
            outline = corners(
                np.insert(points[:, index], 2, height / 2, axis=1),
                np.broadcast_to([length, width, height], (len(points), 3)),
                headings[:, index],
            )
            margin = episode.town.asphalt_margin(outline[..., :2].reshape(-1, 2))
            near = np.abs(outline[..., :2]).max(axis=-1).ravel() < 400
            assert margin[near].min(initial=1) > 0, driver


def test_motion_is_smooth(episodes: list[Episode]) -> None:
    """Accelerations by differences of positions, against 5 m/s²; curvature by those of headings."""
    for episode in episodes:
        points, headings, curvatures = episode.poses(shown(episode))
        velocity = np.diff(points[::3], axis=0) * RATE / 3
        push = np.linalg.norm(np.diff(velocity, axis=0) * RATE / 3, axis=-1)
        assert push.max() < 5
        assert np.abs(curvatures).max() < 1 / 6
        moved = np.linalg.norm(np.diff(points, axis=0), axis=-1)
        turned = np.abs(np.diff(headings, axis=0))
        assert (turned <= moved / 6 + 1e-6).all()
        # Wheels do not slide: each step goes where the vehicle points.
        middle = (headings[1:] + headings[:-1]) / 2
        aside = -np.sin(middle) * np.diff(points, axis=0)[..., 0]
        aside += np.cos(middle) * np.diff(points, axis=0)[..., 1]
        assert np.abs(aside).max() < 5e-3


def test_boxes_never_overlap(episodes: list[Episode]) -> None:
    """By points: no point of a grid in one box lies in another one."""
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 5)), -1).reshape(-1, 2)
    for episode in episodes:
        assert not collisions(episode)
        points, headings, _ = episode.poses(shown(episode)[::5])
        halves = np.array([KINDS[d.kind].size[:2] for d in episode.drivers]) / 2
        cos, sin = np.cos(headings), np.sin(headings)
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
        inside = grid * halves[:, None]
        world = np.einsum("tnij,nkj->tnki", turn, inside) + points[:, :, None]
        for other in range(len(halves)):
            local = np.einsum(
                "tij,tnki->tnkj", turn[:, other], world - points[:, None, None, other]
            )
            hit = (np.abs(local) < halves[other]).all(-1)
            hit[:, other] = False
            assert not hit.any()


def test_an_overlap_is_found() -> None:
    episode = draw("straight", 0)
    arcs = episode.flow.arcs
    same = [i for i, d in enumerate(episode.drivers) if d.route.key == episode.drivers[1].route.key]
    arcs[:, same] = arcs[:, same[:1]]
    found = collisions(episode)
    assert len(same) < 2 or (same[0], same[1]) in found


def test_the_car_does_what_was_asked(episodes: list[Episode]) -> None:
    for episode in episodes:
        points, headings, _ = (values[:, 0] for values in episode.poses(episode.steps))
        turned = headings[-1] - headings[0]
        left = np.array([-np.sin(headings[0]), np.cos(headings[0])])
        if episode.behaviour in ("left", "right"):
            assert np.sign(turned) == (1 if episode.behaviour == "left" else -1)
            assert abs(turned) > 0.3
        elif episode.behaviour == "stop":
            speeds = episode.flow.speeds[episode.steps, 0]
            assert speeds[0] > 0.3 and speeds.min() < 0.1
        elif episode.behaviour == "lane_change":
            assert abs((points[-1] - points[0]) @ left) > 0.5
        else:
            assert abs(turned) < 0.4


def test_the_trajectory_is_the_recorded_path_in_the_first_frame() -> None:
    episode = draw("left", 1, fps=30, num_frames=65)
    trajectory = episode.trajectory()
    assert trajectory.shape == (64, 3) and not trajectory[:, 2].any()
    points, headings, _ = (values[:, 0] for values in episode.poses(episode.steps))
    # At 30 fps every third frame is 0.1 s later; the same points by complex numbers.
    local = (points - points[0]) @ [1, 1j] * np.exp(-1j * headings[0])
    np.testing.assert_allclose(trajectory[:21, :2] @ [1, 1j], local[3:64:3], atol=1e-9)
    speeds = np.linalg.norm(np.diff(trajectory, axis=0), axis=1) / 0.1
    assert np.abs(np.diff(speeds)).max() < 0.5


def test_frame_rates_show_the_same_drive() -> None:
    slow, fast = draw("straight", 2), draw("straight", 2, fps=30, num_frames=97)
    np.testing.assert_array_equal(slow.steps, fast.steps[::3])
