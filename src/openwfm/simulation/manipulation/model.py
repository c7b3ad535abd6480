"""The MuJoCo model of the table: compiled once, its fields are rewritten for every scene.

The gripper hangs on six virtual joints (three slides, then yaw, pitch and roll) with position
servos, and grasps by friction between two coupled fingers. The arm's links are drawn where
inverse kinematics puts them and touch nothing. Metres, kilograms, z up, the table's top is z = 0.
"""

from __future__ import annotations

import math

from openwfm.simulation.looks import TEXTURE_SIDE
from openwfm.simulation.manipulation.arm import FORE, HAND, SHOULDER, UPPER

TIMESTEP = 0.005
MAX_BLOCKS = 3
TABLE_CENTRE, TABLE_HALF = (-0.08, 0.0), (0.42, 0.37)
SKY_SIDE = 8
FINGER_TRAVEL = 0.045  # each finger, so that the gripper opens 9 cm
FINGER_THICKNESS = 0.01
CUP_RADIUS, CUP_HEIGHT, CUP_WALL, CUP_SIDES = 0.054, 0.06, 0.004, 8
CABINET = (0.085, 0.06, 0.05)  # half sides; the drawer comes out towards -y
HANDLE_REACH, HANDLE_HEIGHT = 0.045, 0.055
DRAWER_TRAVEL = 0.1
OBJECT = 'contype="3" conaffinity="6"'
GRIPPER = 'contype="5" conaffinity="0"'
FIXTURE = 'contype="0" conaffinity="6"'
SEEN = 'contype="0" conaffinity="0"'
METAL, STEEL, DARK = "0.82 0.83 0.86 1", "0.52 0.54 0.58 1", "0.20 0.21 0.24 1"
ACCENT = "0.93 0.45 0.12 1"
GRIPPER_JOINTS = ("x", "y", "z", "yaw", "pitch", "roll")


def model_xml(width: int, height: int) -> str:
    """``width`` and ``height`` of the offscreen buffer in pixels."""
    cx, cy = TABLE_CENTRE
    hx, hy = TABLE_HALF
    return f"""
<mujoco>
  <option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="5">
    <flag midphase="disable" sleep="enable"/>
  </option>
  <statistic extent="1" center="0 0 0"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality offsamples="0" numslices="16" numstacks="8" numquads="1"/>
    <map znear="0.05" zfar="8"/>
    <headlight active="1" ambient="0.42 0.42 0.42" diffuse="0.12 0.12 0.12" specular="0 0 0"/>
  </visual>
  <asset>
    <texture name="table" type="2d" builtin="flat" width="{TEXTURE_SIDE}" height="{TEXTURE_SIDE}"/>
    <texture name="sky" type="skybox" builtin="flat" width="{SKY_SIDE}" height="{6 * SKY_SIDE}"/>
    <material name="table" texture="table" specular="0" reflectance="0"/>
  </asset>
  <default>
    <geom solref="0.012 1" friction="0.6 0.005 0.0001"/>
  </default>
  <worldbody>
    <light type="directional" pos="0 0 2" castshadow="false" specular="0.2 0.2 0.2"/>
    <geom name="board" type="box" pos="{cx} {cy} -0.02" size="{hx} {hy} 0.02" material="table"
          {SEEN}/>
    <geom name="table" type="plane" size="1 1 1" rgba="0 0 0 0" contype="0" conaffinity="1"/>
    <geom name="mark" type="cylinder" size="0.04 0.001" pos="0 0 0" {SEEN}/>
    {_arm()}
    {_gripper()}
    {_cabinet()}
    {_cup()}
    {"".join(_block(i) for i in range(MAX_BLOCKS))}
  </worldbody>
  <equality><joint joint1="right" joint2="left" solref="0.01 1"/></equality>
  <actuator>
    {"".join(_servo(name) for name in GRIPPER_JOINTS)}
    <position name="fingers" joint="left" kp="500" kv="14" forcerange="-12 12"/>
  </actuator>
</mujoco>"""


def _servo(name: str) -> str:
    gains = (
        'kp="3400" kv="115" forcerange="-45 45"'
        if name in "xyz"
        else 'kp="18" kv="0.6" forcerange="-4 4"'
    )
    return f'<position name="{name}" joint="{name}" {gains}/>'


def _arm() -> str:
    x, y, z = SHOULDER
    return f"""
    <geom name="base" type="cylinder" pos="{x} {y} 0.02" size="0.075 0.02" rgba="{DARK}" {SEEN}/>
    <geom name="turret" type="cylinder" pos="{x} {y} {0.5 * z + 0.02}" size="0.05 {0.5 * z - 0.02}"
          rgba="{METAL}" {SEEN}/>
    <geom name="shoulder" type="sphere" pos="{x} {y} {z}" size="0.056" rgba="{ACCENT}" {SEEN}/>
    <body name="upper" mocap="true">
      <geom name="upper" type="capsule" size="0.036 {UPPER / 2}" rgba="{METAL}" {SEEN}/>
      <geom name="elbow" type="sphere" size="0.048" pos="0 0 {UPPER / 2}" rgba="{ACCENT}" {SEEN}/>
    </body>
    <body name="fore" mocap="true">
      <geom name="fore" type="capsule" size="0.030 {FORE / 2}" rgba="{METAL}" {SEEN}/>
      <geom name="wrist" type="sphere" size="0.037" pos="0 0 {FORE / 2}" rgba="{ACCENT}" {SEEN}/>
    </body>"""


def _gripper() -> str:
    joints = "".join(
        f'<joint name="{name}" type="{"slide" if name in "xyz" else "hinge"}" axis="{axis}"/>'
        for name, axis in zip(
            GRIPPER_JOINTS, ("1 0 0", "0 1 0", "0 0 1", "0 0 1", "0 1 0", "1 0 0"), strict=True
        )
    )
    fingers = "".join(
        f"""
      <body name="{name}" gravcomp="1">
        <joint name="{name}" type="slide" axis="0 {side} 0" range="0 {FINGER_TRAVEL}"/>
        <inertial pos="0 0 0.03" mass="0.05" diaginertia="2e-5 2e-5 2e-5"/>
        <geom name="{name}" type="box" pos="0 {side * FINGER_THICKNESS / 2} 0.03"
              size="0.013 {FINGER_THICKNESS / 2} 0.038" rgba="{STEEL}" {GRIPPER} condim="4"
              friction="1.6 0.02 0.0001" priority="1"/>
      </body>"""
        for name, side in (("left", 1), ("right", -1))
    )
    return f"""
    <body name="gripper" gravcomp="1">
      {joints}
      <inertial pos="0 0 0.03" mass="0.8" diaginertia="0.004 0.004 0.004"/>
      <geom name="palm" type="box" pos="0 0 0.081" size="0.02 0.058 0.013" rgba="{DARK}" {GRIPPER}/>
      <geom name="hand" type="cylinder" pos="0 0 {(HAND + 0.094) / 2}"
            size="0.027 {(HAND - 0.094) / 2}" rgba="{METAL}" {SEEN}/>{fingers}
    </body>"""


def _cabinet() -> str:
    x, y, z = CABINET
    wall, gap = 0.004, 0.002
    front = -y - wall
    sides = "".join(
        f'<geom name="cabinet{i}" type="box" pos="{pos}" size="{size}" {FIXTURE}/>'
        for i, (pos, size) in enumerate(
            (
                (f"{-x} 0 {z}", f"{wall} {y} {z}"),
                (f"{x} 0 {z}", f"{wall} {y} {z}"),
                (f"0 {y} {z}", f"{x} {wall} {z}"),
                (f"0 0 {2 * z - wall}", f"{x} {y} {wall}"),
            )
        )
    )
    inner, bottom = x - wall - gap, 0.012
    drawer = "".join(
        f'<geom name="{name}" type="box" pos="{pos}" size="{size}" {FIXTURE}/>'
        for name, pos, size in (
            ("front", f"0 {front} {z}", f"{x + wall} {wall} {z}"),
            ("tray", f"0 0 {bottom}", f"{inner} {y - 0.006} {wall}"),
            ("tray0", f"{-inner} 0 0.035", f"{wall / 2} {y - 0.006} 0.025"),
            ("tray1", f"{inner} 0 0.035", f"{wall / 2} {y - 0.006} 0.025"),
            ("tray2", f"0 {y - 0.008} 0.035", f"{inner} {wall / 2} 0.025"),
            ("stem0", f"-0.035 {front - HANDLE_REACH / 2} {HANDLE_HEIGHT}",
             f"0.005 {HANDLE_REACH / 2} 0.005"),
            ("stem1", f"0.035 {front - HANDLE_REACH / 2} {HANDLE_HEIGHT}",
             f"0.005 {HANDLE_REACH / 2} 0.005"),
            ("handle", f"0 {front - HANDLE_REACH} {HANDLE_HEIGHT}", "0.042 0.007 0.007"),
        )
    )  # fmt: skip
    return f"""
    <body name="cabinet">{sides}
      <body name="drawer" gravcomp="1">
        <joint name="drawer" type="slide" axis="0 -1 0" range="0 {DRAWER_TRAVEL}" damping="4"/>
        <inertial pos="0 0 0.04" mass="0.3" diaginertia="0.001 0.001 0.001"/>{drawer}
      </body>
    </body>"""


def _cup() -> str:
    half = CUP_RADIUS * math.tan(math.pi / CUP_SIDES) + CUP_WALL
    walls = "".join(
        f'<geom name="cup{i}" type="box" size="{CUP_WALL} {half} {CUP_HEIGHT / 2}" '
        f'pos="{CUP_RADIUS * math.cos(a)} {CUP_RADIUS * math.sin(a)} {CUP_HEIGHT / 2}" '
        f'euler="0 0 {math.degrees(a)}" {OBJECT}/>'
        for i, a in enumerate(2 * math.pi * i / CUP_SIDES for i in range(CUP_SIDES))
    )
    return f"""
    <body name="cup"><freejoint name="cup"/>
      <inertial pos="0 0 0.02" mass="0.2" diaginertia="4e-4 4e-4 6e-4"/>
      <geom name="cup" type="cylinder" pos="0 0 0.004" size="{CUP_RADIUS} 0.004" {OBJECT}/>{walls}
    </body>"""


def _block(index: int) -> str:
    return (
        f'<body name="block{index}"><freejoint name="block{index}"/>'
        f'<geom name="block{index}" type="box" size="0.025 0.025 0.025" {OBJECT}/></body>'
    )
