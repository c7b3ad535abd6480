"""The physics world against closed forms."""

import math

import numpy as np
import pytest

from openwfm.simulation.bodies import Body
from openwfm.simulation.physics import events
from openwfm.simulation.physics.config import SCENARIOS
from openwfm.simulation.physics.drawing import Draw
from openwfm.simulation.physics.piles import overhang
from openwfm.simulation.physics.recording import Recording
from openwfm.simulation.physics.scenarios import DRAWS, on_slope, slope
from openwfm.simulation.physics.scene import Piece, Scene, Wheel
from openwfm.simulation.physics.simulator import Simulator

FPS = 24
BOX = {"low": (-1.0, -1.0, 0.0), "high": (1.0, 1.0, 1.0), "elevation": (10.0, 20.0)}


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    pytest.importorskip("mujoco")
    return Simulator(FPS)


def falling(height: float, **given: float) -> Scene:
    body = Body(shape="sphere", size=(0.1, 0, 0), colour="red", position=(0, 0, height), **given)  # type: ignore[arg-type]
    return Scene(scenario="free_fall", pieces=(Piece(body=body),), **BOX)  # type: ignore[arg-type]


@pytest.mark.parametrize("gravity", [1.62, 9.81, 24.79])
@pytest.mark.parametrize("density", [100.0, 3000.0])
def test_a_fall_covers_half_of_g_t_squared(
    simulator: Simulator, gravity: float, density: float
) -> None:
    scene = falling(5.0, density=density)
    scene = Scene(**{**scene.__dict__, "gravity": gravity})
    recording = simulator.record(scene, 15)
    seconds = np.arange(1, 15) / FPS
    fallen = 5.0 - recording.positions[1:, 0, 2]
    np.testing.assert_allclose(fallen, gravity * seconds**2 / 2, rtol=0.01)
    np.testing.assert_allclose(recording.velocities[1:, 0, 2], -gravity * seconds, rtol=0.01)
    np.testing.assert_allclose(recording.energy(), recording.energy()[0], rtol=1e-6)


@pytest.mark.parametrize("bounce", [0.3, 0.7])
def test_a_ball_returns_with_the_given_share_of_its_speed(
    simulator: Simulator, bounce: float
) -> None:
    recording = simulator.record(falling(1.1, bounce=bounce), 40)
    rose = events.bounce_height(recording, 0)
    # Rebound height is bounce² of the drop of one metre; frames may miss the top by 2 cm.
    assert math.sqrt(rose) == pytest.approx(bounce, abs=0.12)


@pytest.mark.parametrize("angle", [12.0, 25.0, 35.0])
@pytest.mark.parametrize("share", [0.85, 0.95, 1.05, 1.2])
def test_a_box_slides_if_friction_is_below_the_tangent(
    simulator: Simulator, angle: float, share: float
) -> None:
    radians = math.radians(angle)
    friction = share * math.tan(radians)
    draw = Draw(np.random.default_rng(0))
    piece = on_slope(draw, "box", (0.08, 0.08, 0.05), radians, -0.35, 0.0, friction)
    scene = Scene(
        scenario="tilted_plane", pieces=(piece,), fixtures=slope(radians), **BOX  # type: ignore[arg-type]
    )  # fmt: skip
    frames = 20
    recording = simulator.record(scene, frames)
    slid = np.linalg.norm(recording.positions[-1, 0] - recording.positions[0, 0])
    if share > 1:
        assert slid < 0.005
    else:
        seconds = (frames - 1) / FPS
        acceleration = 9.81 * (math.sin(radians) - friction * math.cos(radians))
        assert slid == pytest.approx(acceleration * seconds**2 / 2, rel=0.05, abs=0.004)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_energy_never_grows(simulator: Simulator, scenario: str) -> None:
    """Mechanical energy stays below its start, to a thousandth of what there is to lose. During
    an impact it dips, since the contact's spring holds a part, and comes back; from one frame
    without any contact to another it falls or stays."""
    for seed in range(3):
        recording = simulator.record(DRAWS[scenario](np.random.default_rng(seed)), 36)
        energy = recording.energy()
        scale = energy[0] - recording.potential().sum(1).min() + 1e-3
        assert (energy.max() - energy[0]) / scale < 1e-3
        touched = set(recording.contacts[:, 0].tolist())
        free = [f for f in range(36) if not touched & {f - 1, f}]
        assert (np.diff(energy[free]) / scale < 1e-3).all()
        assert (energy[-1] - energy.min()) / scale < 0.1


def top(spin: float, tilt: float, radius: float = 0.14) -> Wheel:
    return Wheel(
        radius=radius, half_width=0.02, arm=0.13, mass=1.3, spin=spin, height=0.35, azimuth=0.7,
        tilt=tilt, colour="red", pattern="halves",
    )  # fmt: skip


@pytest.mark.parametrize("spin", [40.0, -80.0, 160.0])
def test_a_gyroscope_precesses_at_m_g_r_over_i_omega(simulator: Simulator, spin: float) -> None:
    wheel = top(spin, tilt=0.0)
    frames = 40
    scene = Scene(scenario="gyroscope", wheel=wheel, **BOX)  # type: ignore[arg-type]
    recording = simulator.record(scene, frames)
    rate = math.radians(events.precessed(recording, 0)) / ((frames - 1) / FPS)
    inertia = 0.5 * wheel.mass * wheel.radius**2
    assert rate == pytest.approx(wheel.mass * 9.81 * wheel.arm / (inertia * spin), rel=0.05)
    # Set going at that rate, it does not nod, and it does not slow down.
    assert np.ptp(recording.positions[:, 0, 2]) < 0.003
    axle = recording.axes(0)
    np.testing.assert_allclose((recording.spins[:, 0] * axle).sum(-1), spin, rtol=0.002)


@pytest.mark.parametrize("tilt", [-0.3, 0.4])
def test_a_tilted_gyroscope_keeps_its_height(simulator: Simulator, tilt: float) -> None:
    scene = Scene(scenario="gyroscope", wheel=top(60.0, tilt), **BOX)  # type: ignore[arg-type]
    heights = simulator.record(scene, 40).positions[:, 0, 2]
    np.testing.assert_allclose(heights, 0.35 + 0.13 * math.sin(tilt), atol=0.003)


def test_dominoes_fall_in_order(simulator: Simulator) -> None:
    for seed in range(3):
        scene = DRAWS["dominoes"](np.random.default_rng(seed))
        recording = simulator.record(scene, 49)
        row = [i for i, piece in enumerate(scene.pieces) if piece.noun == "domino"]
        fell = [events.tipping(recording, i) for i in row]
        assert None not in fell
        assert fell == sorted(fell) and fell[0] < fell[-1]  # type: ignore[type-var, operator]


def stack_outcome(simulator: Simulator, scenario: str, seed: int) -> tuple[Recording, list[bool]]:
    scene = DRAWS[scenario](np.random.default_rng(seed))
    recording = simulator.record(scene, 49)
    count = len(scene.pieces)
    lifted = recording.first_contact(count - 1, count - 2) != 0
    standing = range(count - 1 if lifted else count)
    return recording, [events.falls_off(recording, i) for i in standing]


@pytest.mark.parametrize("seed", range(4))
def test_stable_stacks_stay_and_unstable_ones_fall(simulator: Simulator, seed: int) -> None:
    recording, fell = stack_outcome(simulator, "stable_stack", seed)
    assert not any(fell)
    assert recording.positions[-1, -1, 2] > recording.positions[-1, -2, 2]
    _, fell = stack_outcome(simulator, "unstable_stack", seed)
    assert any(fell)


def test_a_stack_is_unstable_beyond_the_edge(simulator: Simulator) -> None:
    """The boundary itself: a box on another, its centre 10 percent inside or outside the edge."""
    for share, falls in ((0.9, False), (1.1, True)):
        bodies = [
            Body(shape="box", size=(0.1, 0.1, 0.06), colour=colour, position=(x, 0, z))
            for colour, x, z in (("red", 0.0, 0.06), ("blue", share * 0.1, 0.18))
        ]
        pieces = tuple(Piece(body=body) for body in bodies)
        assert overhang(pieces) == pytest.approx(share - 1)
        scene = Scene(scenario="unstable_stack", pieces=pieces, **BOX)  # type: ignore[arg-type]
        assert events.falls_off(simulator.record(scene, 49), 1) is falls


@pytest.mark.parametrize("seed", range(4))
def test_the_heavier_end_of_a_seesaw_goes_down(simulator: Simulator, seed: int) -> None:
    scene = next(
        s for s in (DRAWS["seesaw"](np.random.default_rng([seed, i])) for i in range(100))
        if s.facts["kind"] != "drop"
    )  # fmt: skip
    recording = simulator.record(scene, 7)
    torque = sum(piece.mass * piece.body.position[0] for piece in scene.pieces)
    angle = events.board_angle(recording, len(scene.pieces))[-1]
    if scene.facts["kind"] == "balanced":
        assert abs(angle) < 1
    else:
        assert (angle < -4) if torque > 0 else (angle > 4)


def test_a_ball_in_the_trough_swings_at_the_rate_of_a_rolling_pendulum(
    simulator: Simulator,
) -> None:
    """Small swings of a ball that rolls inside a cylinder: T = 2π·sqrt(7 (R − r) / 5 g)."""
    from openwfm.simulation.physics.scenarios import trough

    radius, ball, angle = 0.55, 0.08, 0.35
    reach = radius - ball
    place = (reach * math.sin(angle), 0.0, radius + 0.02 - reach * math.cos(angle))
    body = Body(shape="sphere", size=(ball, 0, 0), colour="red", position=place, friction=0.8)
    scene = Scene(
        scenario="u_ramp", pieces=(Piece(body=body),), fixtures=trough(radius, 0.3), **BOX  # type: ignore[arg-type]
    )  # fmt: skip
    x = simulator.record(scene, 60).positions[:, 0, 0]
    crossings = np.flatnonzero(x[1:] * x[:-1] < 0)
    exact = crossings + x[crossings] / (x[crossings] - x[crossings + 1])
    period = 2 * np.diff(exact).mean() / FPS
    assert period == pytest.approx(2 * math.pi * math.sqrt(7 * reach / (5 * 9.81)), rel=0.05)
