"""The table's physics: servos, grasps by friction, the drawer, and what goes wrong."""

from dataclasses import replace

import numpy as np
import pytest

from openwfm.simulation.looks import Look
from openwfm.simulation.manipulation.actions import rotation
from openwfm.simulation.manipulation.model import DRAWER_TRAVEL, TABLE_CENTRE, TABLE_HALF, TIMESTEP
from openwfm.simulation.manipulation.scene import TASKS, Block, Scene, draw_scene
from openwfm.simulation.manipulation.simulator import (
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    Simulator,
)
from openwfm.simulation.worlds import ClipRejectedError

pytest.importorskip("mujoco")
LOOK = Look(
    table="grey",
    pattern="gradient",
    texture=np.full((64, 64, 3), 0.5),
    background=(0.5, 0.5, 0.5),
    light=(0.2, 0.1, -1.0),
    brightness=1.0,
)
BLOCK = Block(colour="red", half=0.025, spot=(0.0, 0.0), yaw=0.0)
SCENE = Scene(task="reach", target=0, blocks=(BLOCK,), gripper=(0.0, 0.0, 0.2), opening=1.0)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(64, 64)


def act(simulator: Simulator, *shift: float, opening: float = 1.0, times: int = 1) -> None:
    for _ in range(times):
        simulator.step(np.array([*shift, 0, 0, 0, opening]))


def test_free_motion_obeys_the_command(simulator: Simulator) -> None:
    draw = np.random.default_rng(0)
    simulator.start(replace(SCENE, blocks=(replace(BLOCK, spot=(0.15, -0.2)),)), LOOK)
    for _ in range(40):
        before = simulator.read()
        action = draw.uniform(-1, 1, 7) * (0.03, 0.03, 0.03, 0.1, 0.1, 0.3, 0.5)
        action[6] += 0.5
        simulator.step(action)
        after = simulator.read()
        turn = rotation(before.euler)
        goal = np.clip(before.position + turn @ action[:3], WORKSPACE_LOW, WORKSPACE_HIGH)
        assert np.abs(after.position - goal).max() < 0.003
        assert after.opening == pytest.approx(action[6], abs=0.05)
        if np.abs(after.euler).max() < 0.45:
            expected = turn @ rotation(action[3:6])
            assert np.abs(rotation(after.euler) - expected).max() < 0.03


def test_a_block_is_held_by_friction_and_falls_when_let_go(simulator: Simulator) -> None:
    simulator.start(SCENE, LOOK)
    act(simulator, 0, 0, -0.06, times=2)
    act(simulator, 0, 0, -0.055)
    act(simulator, 0, 0, 0, opening=0.0, times=2)
    held = simulator.read()
    assert held.opening == pytest.approx(0.05 / 0.09, abs=0.03)
    act(simulator, 0, 0, 0.05, opening=0.0, times=4)
    act(simulator, 0.05, -0.03, 0, opening=0.0, times=2)
    lifted = simulator.read()
    assert lifted.positions[0, 2] > 0.18
    np.testing.assert_allclose(
        lifted.positions[0] - lifted.position, held.positions[0] - held.position, atol=0.006
    )
    act(simulator, 0, 0, 0, opening=1.0, times=3)
    assert simulator.read().positions[0, 2] == pytest.approx(BLOCK.half, abs=0.002)


def test_free_fall(simulator: Simulator) -> None:
    simulator.start(SCENE, LOOK)
    data = simulator.data
    start = simulator.model.joint("block0").qposadr[0]
    data.qpos[start : start + 3] = (0.1, 0.1, 1.5)
    import mujoco

    mujoco.mj_forward(simulator.model, data)
    act(simulator, 0, 0, 0, times=2)
    fallen = 1.5 - simulator.read().positions[0, 2]
    # Semi-implicit Euler is ahead of ½ g t² by ½ g t dt.
    assert fallen == pytest.approx(0.5 * 9.81 * 0.4 * (0.4 + TIMESTEP), rel=1e-3)


def test_things_rest_and_the_energy_does_not_grow(simulator: Simulator) -> None:
    for number, task in enumerate(TASKS):
        scene = draw_scene(np.random.default_rng(number), task)
        simulator.start(scene, LOOK)
        before = simulator.read()
        act(simulator, 0, 0, 0, times=10)
        after = simulator.read()
        np.testing.assert_allclose(after.positions, before.positions, atol=0.001)
        assert after.drawer == pytest.approx(scene.drawer if scene.cabinet else 0.0, abs=1e-3)
        assert np.abs(simulator.data.qvel).max() < 0.01


def test_the_drawer_follows_its_handle_and_stops_at_its_end(simulator: Simulator) -> None:
    simulator.start(
        replace(SCENE, cabinet=(0.0, 0.24), blocks=(replace(BLOCK, spot=(0, -0.3)),)), LOOK
    )
    data = simulator.data
    slot = simulator.model.joint("drawer").dofadr[0]
    handle = simulator.model.geom("handle").id
    import mujoco

    data.qfrc_applied[slot] = 2.0
    act(simulator, 0, 0, 0, times=2)
    mujoco.mj_kinematics(simulator.model, data)
    truth = simulator.read()
    np.testing.assert_allclose(data.geom_xpos[handle], truth.handle, atol=1e-9)
    # Force over damping is the terminal speed.
    assert data.qvel[slot] == pytest.approx(2.0 / 4.0, rel=0.05) or truth.drawer > 0.09
    act(simulator, 0, 0, 0, times=4)
    assert simulator.read().drawer == pytest.approx(DRAWER_TRAVEL, abs=0.005)


def test_a_scene_leaves_nothing_behind(simulator: Simulator) -> None:
    """The model after a scene is the same whatever was set before."""
    fresh = Simulator(64, 64)
    scenes = [draw_scene(np.random.default_rng(i), task) for i, task in enumerate(TASKS)]
    for scene in scenes:
        simulator.start(scene, LOOK)
        act(simulator, 0.02, 0.02, -0.02)
    simulator.start(scenes[2], LOOK)
    fresh.start(scenes[2], LOOK)
    for name in ("geom_rgba", "geom_contype", "geom_conaffinity", "geom_size", "geom_pos",
                 "geom_rbound", "geom_aabb", "body_mass", "body_inertia", "body_pos",
                 "body_gravcomp", "tex_data", "dof_invweight0", "actuator_acc0"):  # fmt: skip
        np.testing.assert_array_equal(getattr(simulator.model, name), getattr(fresh.model, name))
    for one in (simulator, fresh):
        act(one, 0.02, 0.01, -0.05, times=3)
    np.testing.assert_array_equal(simulator.data.qpos, fresh.data.qpos)


def test_scenes_have_room_and_lie_on_the_table() -> None:
    draw = np.random.default_rng(5)
    for task in TASKS * 10:
        scene = draw_scene(draw, task)
        spots = np.array([block.spot for block in scene.blocks])
        away = np.linalg.norm(spots[:, None] - spots[None], axis=-1)[
            np.triu_indices(len(spots), k=1)
        ]
        assert (away > 0.115).all()
        assert (np.abs(spots - TABLE_CENTRE) < TABLE_HALF).all()
        names = [*scene.object_names, *([scene.mark_name] if scene.mark else [])]
        assert len(set(names)) == len(names)


def test_what_leaves_the_table_and_what_explodes_is_rejected(simulator: Simulator) -> None:
    simulator.start(SCENE, LOOK)
    start = simulator.model.joint("block0").qposadr[0]
    simulator.data.qpos[start] = TABLE_CENTRE[0] + TABLE_HALF[0] + 0.01
    with pytest.raises(ClipRejectedError, match="left_table: the red block"):
        act(simulator, 0, 0, 0)
    simulator.start(SCENE, LOOK)
    simulator.data.qvel[simulator.model.joint("block0").dofadr[0]] = 1e9
    with pytest.raises(ClipRejectedError, match="unstable"):
        act(simulator, 0, 0, 0)
