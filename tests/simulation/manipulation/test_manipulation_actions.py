"""The action convention and the arm against scipy, and against each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from openwfm.simulation.manipulation.actions import euler_angles, motions, rotation
from openwfm.simulation.manipulation.arm import (
    FORE,
    HAND,
    SHOULDER,
    UPPER,
    along,
    gripper_of,
    solve,
)
from openwfm.simulation.manipulation.simulator import WORKSPACE_HIGH, WORKSPACE_LOW

angles = st.tuples(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))


@given(angles)
@settings(deadline=None)
def test_rotation_is_yaw_after_pitch_after_roll(euler: tuple[float, float, float]) -> None:
    matrix = Rotation.from_euler("xyz", euler).as_matrix()
    np.testing.assert_allclose(rotation(np.array(euler)), matrix, atol=1e-12)
    np.testing.assert_allclose(euler_angles(matrix), euler, atol=1e-9)


def test_motions_lead_from_frame_to_frame() -> None:
    draw = np.random.default_rng(0)
    positions, eulers = draw.normal(size=(9, 3)), draw.uniform(-1.4, 1.4, (9, 3))
    openings = draw.random(9)
    values = motions(positions, eulers, openings)
    assert values.shape == (8, 7)
    position, turn = positions[0], Rotation.from_euler("xyz", eulers[0])
    for i, action in enumerate(values):
        position = position + turn.apply(action[:3])
        turn = turn * Rotation.from_euler("xyz", action[3:6])
        np.testing.assert_allclose(position, positions[i + 1], atol=1e-12)
        expected = Rotation.from_euler("xyz", eulers[i + 1]).as_matrix()
        np.testing.assert_allclose(turn.as_matrix(), expected, atol=1e-12)
        assert action[6] == openings[i + 1]
    assert (np.abs(values[:, 3:6]) <= np.pi).all()


def test_the_arm_carries_the_gripper_everywhere_in_the_workspace() -> None:
    draw = np.random.default_rng(1)
    for _ in range(200):
        position = draw.uniform(WORKSPACE_LOW, WORKSPACE_HIGH)
        turn = rotation(draw.uniform((-0.5, -0.5, -2.4), (0.5, 0.5, 2.4)))
        arm = solve(position, turn)
        found_position, found_turn = gripper_of(arm.angles)
        np.testing.assert_allclose(found_position, position, atol=1e-9)
        np.testing.assert_allclose(found_turn, turn, atol=1e-9)
        assert np.linalg.norm(arm.elbow - SHOULDER) == pytest.approx(UPPER)
        assert np.linalg.norm(arm.wrist - arm.elbow) == pytest.approx(FORE)
        np.testing.assert_allclose(arm.wrist - position, HAND * turn[:, 2], atol=1e-9)
        # The elbow is above the line from shoulder to wrist.
        assert arm.elbow[2] > (SHOULDER[2] + arm.wrist[2]) / 2


def test_along_turns_the_z_axis() -> None:
    draw = np.random.default_rng(2)
    for direction in [*draw.normal(size=(20, 3)), np.array([0, 0, -2.0]), np.array([0, 0, 1.0])]:
        quaternion = along(direction)
        turned = Rotation.from_quat(quaternion, scalar_first=True).apply([0, 0, 1])
        np.testing.assert_allclose(turned, direction / np.linalg.norm(direction), atol=1e-9)
