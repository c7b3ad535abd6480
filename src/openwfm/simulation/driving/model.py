"""The MuJoCo model of a street: its layers, its materials, and textures that are drawn anew."""

from __future__ import annotations

import numpy as np

from openwfm.simulation.driving.config import MAX_AGENTS
from openwfm.simulation.driving.scenery import NUM_CROWNS, NUM_FACADES
from openwfm.simulation.driving.vehicles import KINDS, PALETTE, body, lamps
from openwfm.simulation.driving.weather import SKY_SIDE

TEXTURE_SIDE, PAINT_SIDE = 128, 64
FAR, NEAR = 480.0, 0.2  # metres

# Layer: most quads, texture, what its pixels are called.
LAYERS: dict[str, tuple[int, str, str]] = {
    "ground": (1, "ground", "ground"),
    "asphalt": (500, "asphalt", "road"),
    "pavement": (900, "asphalt", "pavement"),
    "white": (1400, "", "marking"),
    "yellow": (700, "", "marking"),
    "shadow": (1200, "", "shadow"),
    **{f"facade{i}": (140, "facade", "building") for i in range(NUM_FACADES)},
    "roof": (500, "", "building"),
    "trunk": (500, "", "tree"),
    **{f"crown{i}": (2400, "", "tree") for i in range(NUM_CROWNS)},
    "pole": (900, "", "pole"),
    "lamp": (300, "", "pole"),
    "sign": (40, "", "stop sign"),
    **{f"{c}_{r}": (50, "", "traffic light")
       for c in ("red", "amber", "green") for r in ("main", "side")},
}  # fmt: skip
MASK_NAMES = (
    "sky", "ground", "road", "pavement", "marking", "building", "tree", "pole", "stop sign",
    "traffic light",
)  # fmt: skip
PARTS = ("body", "head", "tail")


def palette() -> np.ndarray:
    """uint8 square of one column for each entry of PALETTE."""
    columns = np.array(PALETTE).repeat(PAINT_SIDE // len(PALETTE), axis=0)
    return np.rint(255 * np.broadcast_to(columns, (PAINT_SIDE, PAINT_SIDE, 3))).astype(np.uint8)


def noise(rng: np.random.Generator, strength: float) -> np.ndarray:
    """uint8 square that repeats: grain over soft spots, almost white."""
    total = np.zeros((TEXTURE_SIDE, TEXTURE_SIDE))
    for cells, share in ((4, 0.35), (16, 0.3), (TEXTURE_SIDE, 0.35)):
        coarse = rng.uniform(-1, 1, (cells, cells))
        total += share * coarse.repeat(TEXTURE_SIDE // cells, 0).repeat(TEXTURE_SIDE // cells, 1)
    image = np.clip(1 - strength + strength * total, 0, 1)
    return np.rint(255 * image[..., None].repeat(3, axis=-1)).astype(np.uint8)


def facade(rng: np.random.Generator, glow: float) -> np.ndarray:
    """uint8 square of four by four windows; some are lit when it gets dark."""
    image = np.full((TEXTURE_SIDE, TEXTURE_SIDE, 3), 1.0 - 0.45 * (glow > 0.9))
    cell = TEXTURE_SIDE // 4
    for row in range(4):
        for column in range(4):
            lit = rng.random() < 0.45 * glow
            pane = (
                np.array([1.0, 0.84, 0.50])
                if lit
                else rng.uniform(0.20, 0.34) * np.array([0.85, 0.95, 1.1])
            )
            y, x = row * cell, column * cell
            image[y + 8 : y + 24, x + 8 : x + 24] = pane
            image[y + 15 : y + 17, x + 8 : x + 24] *= 0.7
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _mesh_xml(name: str, most: int) -> str:
    """A mesh of ``most`` quads without shape yet; their vertices must differ to compile."""
    number = np.arange(4 * most)
    vertices = np.stack([number % 7, number**2 % 11, number % 97], axis=-1)
    quads = number.reshape(-1, 4)
    faces = quads[:, [0, 1, 2, 0, 2, 3]]

    def text(array: np.ndarray) -> str:
        return " ".join(map(str, array.ravel().tolist()))

    return (
        f'<mesh name="{name}" inertia="shell" vertex="{text(vertices)}" '
        f'normal="{text(np.tile([0, 0, 1], (4 * most, 1)))}" '
        f'texcoord="{text(np.zeros((4 * most, 2), int))}" face="{text(faces)}"/>'
    )


def model_xml(width: int, height: int) -> str:
    meshes = "".join(_mesh_xml(name, most) for name, (most, _, _) in LAYERS.items())
    for name, kind in KINDS.items():
        sizes = (len(body(kind)), len(lamps(kind, front=True)), len(lamps(kind, front=False)))
        meshes += "".join(
            _mesh_xml(f"{part}_{name}", size) for part, size in zip(PARTS, sizes, strict=True)
        )
    glowing = ("lamp", "red", "amber", "green")
    geoms = ""
    for name, (_, texture, _) in LAYERS.items():
        material = texture or ("lamp" if name.startswith("lamp") else "plain")
        material = "bulb" if name.split("_")[0] in glowing[1:] else material
        geoms += f'<geom name="{name}" type="mesh" mesh="{name}" material="{material}"/>'
    for i in range(MAX_AGENTS):
        geoms += (
            f'<geom name="body{i}" type="mesh" mesh="body_car" material="paint"/>'
            f'<geom name="head{i}" type="mesh" mesh="head_car" material="bulb"/>'
            f'<geom name="tail{i}" type="mesh" mesh="tail_car" material="bulb"/>'
            f'<geom name="caster{i}" type="box" size="1 1 1" rgba="0 0 0 0"/>'
        )
    textures = "".join(
        f'<texture name="{name}" type="2d" builtin="flat" width="{side}" height="{side}"/>'
        f'<material name="{name}" texture="{name}" specular="0"/>'
        for name, side in (("ground", TEXTURE_SIDE), ("asphalt", TEXTURE_SIDE),
                           ("facade", TEXTURE_SIDE), ("paint", PAINT_SIDE))
    )  # fmt: skip
    return f"""
<mujoco>
  <compiler inertiafromgeom="false"/>
  <option><flag contact="disable"/></option>
  <statistic extent="{FAR}" center="0 0 0"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality offsamples="0" numslices="8" numstacks="4" numquads="1"/>
    <map znear="{NEAR / FAR}" zfar="1"/>
    <headlight active="1" ambient="0.4 0.4 0.4" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <default><geom contype="0" conaffinity="0"/></default>
  <asset>
    {textures}
    <texture name="sky" type="skybox" builtin="gradient" width="{SKY_SIDE}"
             height="{6 * SKY_SIDE}"/>
    <material name="plain" specular="0"/>
    <material name="lamp" specular="0"/>
    <material name="bulb" specular="0" emission="0.8"/>
    {meshes}
  </asset>
  <worldbody>
    <light type="directional" castshadow="false" specular="0 0 0"/>
    {geoms}
  </worldbody>
</mujoco>"""
