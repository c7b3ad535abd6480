"""The one MuJoCo model of the physics world: empty slots, which every scene fills anew."""

from __future__ import annotations

from openwfm.simulation.looks import TEXTURE_SIDE
from openwfm.simulation.physics.paint import FACE_SIDE, SKY_SIDE
from openwfm.simulation.physics.scene import MAX_FIXTURES, MAX_PIECES

HALF_FLOOR = 3.0
PARKED = -20.0


def model_xml(timestep: float, width: int, height: int) -> str:
    """``width`` and ``height`` are of the offscreen buffer in pixels.

    A slot not in use is parked far below, weightless, without contacts, in a group not drawn.
    """
    bodies = "".join(_piece(slot) for slot in range(MAX_PIECES))
    fixtures = "".join(
        f'<geom name="fixture{i}" type="box" size="0.1 0.1 0.1" pos="{2 + i} 0 {PARKED}" '
        'material="fixture" solmix="0.001"/>'
        for i in range(MAX_FIXTURES)
    )
    slots = [f"piece{i}" for i in range(MAX_PIECES)] + ["wheel"]
    paints = "".join(
        f'<texture name="{slot}" type="cube" builtin="flat" width="{FACE_SIDE}" '
        f'height="{6 * FACE_SIDE}"/><material name="{slot}" texture="{slot}" specular="0.3" '
        'shininess="0.4"/>'
        for slot in slots
    )
    return f"""
<mujoco>
  <option timestep="{timestep!r}" cone="elliptic" impratio="5" integrator="implicitfast"/>
  <statistic extent="2" center="0 0 0"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality offsamples="0" numslices="20" numstacks="10" numquads="1"/>
    <map znear="0.02" zfar="15"/>
    <headlight active="1" ambient="0.5 0.5 0.5" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <default><geom friction="0 0 0"/></default>
  <asset>
    <texture name="floor" type="2d" builtin="flat" width="{TEXTURE_SIDE}" height="{TEXTURE_SIDE}"/>
    <texture name="sky" type="skybox" builtin="gradient" width="{SKY_SIDE}"
             height="{6 * SKY_SIDE}"/>
    <material name="floor" texture="floor" specular="0" reflectance="0"/>
    <material name="fixture" rgba="0.6 0.6 0.6 1" specular="0.1"/>
    <material name="board" rgba="0.7 0.5 0.3 1" specular="0.1"/>
    {paints}
  </asset>
  <worldbody>
    <light type="directional" pos="0 0 6" castshadow="false" specular="0.25 0.25 0.25"/>
    <geom name="ground" type="box" pos="0 0 -0.1" size="{HALF_FLOOR} {HALF_FLOOR} 0.1"
          material="floor" contype="0" conaffinity="0"/>
    <geom name="floor" type="plane" size="1 1 1" rgba="0 0 0 0" contype="0" conaffinity="1"
          group="5" solmix="0.001"/>
    {fixtures}
    {bodies}
    <body name="plank" pos="0 -2 {PARKED}" gravcomp="1"><joint type="hinge" axis="0 1 0"/>
      <geom name="plank" type="box" size="0.5 0.1 0.02" material="board" solmix="0.1"/></body>
    <body name="wheel" pos="0 2 {PARKED}" gravcomp="1"><joint type="ball"/>
      <inertial pos="0 0 0.1" mass="1" diaginertia="0.01 0.01 0.01"/>
      <geom name="wheel" type="cylinder" pos="0 0 0.1" size="0.1 0.02" material="wheel"
            contype="0" conaffinity="0"/>
      <geom name="axle" type="capsule" pos="0 0 0.08" size="0.01 0.08" rgba="0.3 0.3 0.33 1"
            contype="0" conaffinity="0"/></body>
  </worldbody>
</mujoco>"""


def _piece(slot: int) -> str:
    return (
        f'<body name="piece{slot}" pos="{-2 - slot} 0 {PARKED}" gravcomp="1"><freejoint/>'
        f'<geom name="piece{slot}" type="sphere" size="0.1" material="piece{slot}" solmix="1"/>'
        "</body>"
    )
