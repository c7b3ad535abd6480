"""The studio: one MuJoCo model, compiled once, whose meshes and colours are rewritten for every
clip. MuJoCo only renders here; everything moves on rails."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from openwfm.extras import require
from openwfm.simulation.driving.config import MAX_AGENTS, DrivingConfig
from openwfm.simulation.driving.quads import EMPTY, Quads
from openwfm.simulation.driving.scenery import NUM_CROWNS, NUM_FACADES
from openwfm.simulation.driving.vehicles import COLOURS, KINDS, PALETTE, body, lamps
from openwfm.simulation.driving.weather import SKY_SIDE, Weather, sky
from openwfm.simulation.render import Renderer
from openwfm.simulation.worlds import ClipRejectedError

TEXTURE_SIDE, PAINT_SIDE = 128, 64
FAR, NEAR = 480.0, 0.2
OUT_OF_SIGHT = 150.0
BRAKE = -0.7  # m/s²: harder than that lights the brake lamps

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
SIGNALS = {"red": (1.0, 0.10, 0.06), "amber": (1.0, 0.66, 0.05), "green": (0.10, 0.95, 0.45)}
PARTS = ("body", "head", "tail")


class Studio:
    """Films what it was dressed for; nothing of the clip before is left."""

    def __init__(self, config: DrivingConfig, backend: str) -> None:
        self._mujoco = mj = require("mujoco", extra="simulation")
        self.fovy = config.fovy
        large = (config.width * config.supersample, config.height * config.supersample)
        self.model = mj.MjModel.from_xml_string(_model_xml(*large))
        self.data = mj.MjData(self.model)
        mj.mj_forward(self.model, self.data)
        self.renderer = _MeshRenderer(
            self.model, backend, config.width, config.height, config.supersample, max_geoms=140
        )
        model = self.model
        self._layers = {name: model.geom(name).id for name in LAYERS}
        self._cars = [[model.geom(f"{part}{i}").id for part in (*PARTS, "caster")]
                      for i in range(MAX_AGENTS)]  # fmt: skip
        self._labels = np.zeros(model.ngeom + 1, np.uint8)
        for name, geom in self._layers.items():
            noun = LAYERS[name][2]
            self._labels[geom + 1] = MASK_NAMES.index(noun) if noun in MASK_NAMES else 0
        for index, geoms in enumerate(self._cars):
            self._labels[np.array(geoms) + 1] = len(MASK_NAMES) + index
        self._texture("paint", _palette())
        model.geom_pos[:], model.geom_quat[:] = 0, (1, 0, 0, 0)
        self.data.geom_xpos[:], self.data.geom_xmat[:] = 0, np.eye(3).ravel()
        for name, kind in KINDS.items():
            self._write(f"body_{name}", body(kind))
            self._write(f"head_{name}", lamps(kind, front=True))
            self._write(f"tail_{name}", lamps(kind, front=False))
        self._casters: list[int] = []
        self._shadow_alpha = 0.0

    def close(self) -> None:
        self.renderer.close()

    def dress(
        self, layers: Mapping[str, Quads], weather: Weather, country: bool, rng: np.random.Generator
    ) -> None:
        """Put up the scenery and the light; ``rng`` draws colours and textures."""
        assert set(layers) <= set(LAYERS)
        for name, (most, _, _) in LAYERS.items():
            quads = layers.get(name, EMPTY)
            if len(quads) > most:
                raise ClipRejectedError("crowded", f"{len(quads)} quads of {name}, room for {most}")
            self._write(name, quads)
        self._paint(weather, country, rng)
        self._light(weather)
        self.renderer.upload_textures()
        self.renderer.upload_meshes()

    def cast(self, kinds: list[str], colours: list[str], weather: Weather) -> None:
        """The vehicles of the clip, in order; the other slots stay empty."""
        model = self.model
        for slot, geoms in enumerate(self._cars):
            model.geom_rgba[geoms, 3] = 0
            if slot >= len(kinds):
                continue
            kind = KINDS[kinds[slot]]
            for part, geom in zip(PARTS, geoms, strict=False):
                model.geom_dataid[geom] = model.mesh(f"{part}_{kinds[slot]}").id
            shade = 0.55 + 0.45 * weather.glow
            model.geom_rgba[geoms[0], :3] = COLOURS[colours[slot]]
            model.geom_rgba[geoms[1], :3] = (shade, shade, 0.92 * shade)
            model.geom_size[geoms[3]] = np.array(kind.size) / 2

    def place(
        self, centres: np.ndarray, headings: np.ndarray, accelerations: np.ndarray, eye: np.ndarray
    ) -> None:
        """Move vehicles (``n 3``, ``n``, ``n``); those far from ``eye`` ``2`` are not drawn."""
        model, data = self.model, self.data
        self._casters = []
        for geoms, centre, heading, push in zip(
            self._cars, centres, headings, accelerations, strict=False
        ):
            near = bool(np.linalg.norm(centre[:2] - eye) < OUT_OF_SIGHT)
            cos, sin = math.cos(heading), math.sin(heading)
            data.geom_xpos[geoms] = centre
            data.geom_xmat[geoms] = (cos, -sin, 0, sin, cos, 0, 0, 0, 1)
            model.geom_rgba[geoms[:3], 3] = 1.0 if near else 0.0
            model.geom_rgba[geoms[2], :3] = (
                (1.0, 0.10, 0.06) if push < BRAKE else (0.45, 0.04, 0.04)
            )
            if near:
                self._casters.append(geoms[3])

    def signal(self, road: str, colour: str | None) -> None:
        """Light one lens of the traffic lights of a road (main, side)."""
        for name, rgb in SIGNALS.items():
            bright = 1.0 if name == colour else 0.22
            self.model.geom_rgba[self._layers[f"{name}_{road}"], :3] = np.array(rgb) * bright

    def picture(self, pose: np.ndarray) -> np.ndarray:
        """uint8 ``h w 3``."""
        self.model.geom_rgba[self._layers["shadow"], 3] = self._shadow_alpha
        picture = self.renderer.render(self.data, self.fovy, pose, self._casters)
        # Shadows are no things: they hide nothing in masks and depth.
        self.model.geom_rgba[self._layers["shadow"], 3] = 0.0
        return picture

    def labels(self, pose: np.ndarray) -> np.ndarray:
        """uint8 ``h w``: indices into MASK_NAMES, then the vehicles."""
        return self._labels[self.renderer.render_geoms(self.data, self.fovy, pose) + 1]

    def depth(self, pose: np.ndarray) -> np.ndarray:
        """float32 ``h w`` metres."""
        return self.renderer.render_depth(self.data, self.fovy, pose)

    def _write(self, mesh: str, quads: Quads) -> None:
        """Rewrite a mesh; it ends after the quads that it needs, the rest is cleared."""
        model, index = self.model, self.model.mesh(mesh).id
        size, used = model.mesh_vertnum[index], 4 * len(quads)
        assert used <= size, f"{mesh}: {len(quads)} quads, room for {size // 4}"
        model.mesh_facenum[index] = 2 * len(quads)
        values = (
            (model.mesh_vert, model.mesh_vertadr, quads.corners.reshape(-1, 3)),
            (model.mesh_normal, model.mesh_normaladr, quads.normals().repeat(4, axis=0)),
            (model.mesh_texcoord, model.mesh_texcoordadr, quads.uv.reshape(-1, 2)),
        )
        for array, address, new in values:
            rows = array[address[index] : address[index] + size]
            rows[used:] = 0
            rows[:used] = new

    def _paint(self, weather: Weather, country: bool, rng: np.random.Generator) -> None:
        model = self.model
        wet = weather.name == "rain"

        def put(layer: str, colour: np.ndarray) -> None:
            model.geom_rgba[self._layers[layer]] = (*np.clip(colour, 0, 1), 1.0)

        grass = np.array(rng.choice([[0.36, 0.50, 0.24], [0.45, 0.52, 0.27], [0.33, 0.46, 0.28]]))
        fields = np.array(rng.choice([[0.42, 0.55, 0.26], [0.66, 0.60, 0.34], [0.38, 0.50, 0.22]]))
        put("ground", fields if country else grass)
        put("asphalt", rng.uniform(0.34, 0.46) * (0.72 if wet else 1.0) * np.array([1, 1, 1.03]))
        put("pavement", rng.uniform(0.60, 0.74) * np.array([1.0, 0.98, 0.94]))
        put("white", np.full(3, 0.92))
        put("yellow", np.array([0.93, 0.74, 0.16]))
        walls = np.array([[0.80, 0.74, 0.64], [0.72, 0.45, 0.36], [0.66, 0.68, 0.70],
                          [0.86, 0.84, 0.80], [0.56, 0.60, 0.66], [0.82, 0.66, 0.46],
                          [0.60, 0.52, 0.46]])  # fmt: skip
        order = rng.permutation(len(walls))
        for index in range(NUM_FACADES):
            put(f"facade{index}", walls[order[index]])
        put(
            "roof",
            np.array(rng.choice([[0.50, 0.24, 0.18], [0.34, 0.33, 0.35], [0.42, 0.30, 0.24]])),
        )
        put("trunk", np.array([0.36, 0.27, 0.20]))
        for index in range(NUM_CROWNS):
            put(
                f"crown{index}",
                rng.uniform(0.8, 1.15)
                * np.array(
                    rng.choice([[0.20, 0.42, 0.17], [0.30, 0.48, 0.18], [0.16, 0.36, 0.22]])
                ),
            )
        put("pole", np.array([0.26, 0.27, 0.28]))
        put("lamp", np.array([1.0, 0.86, 0.58]) if weather.glow > 0.9 else np.full(3, 0.8))
        put("sign", np.array([0.80, 0.08, 0.08]))
        for road in ("main", "side"):
            self.signal(road, None)
            for colour in SIGNALS:
                model.geom_rgba[self._layers[f"{colour}_{road}"], 3] = 1.0
        model.geom_rgba[self._layers["shadow"]] = (0.0, 0.0, 0.03, 0.0)
        self._shadow_alpha = {"day": 0.42, "dusk": 0.22}.get(weather.name, 0.0)
        images = {"ground": _noise(rng, 0.16), "asphalt": _noise(rng, 0.10),
                  "facade": _facade(rng, weather.glow), "sky": sky(weather, rng)}  # fmt: skip
        for name, image in images.items():
            self._texture(name, image)

    def _texture(self, name: str, image: np.ndarray) -> None:
        start = self.model.tex_adr[self.model.texture(name).id]
        self.model.tex_data[start : start + image.size] = image.ravel()

    def _light(self, weather: Weather) -> None:
        model = self.model
        direction = np.asarray(weather.sun) / np.linalg.norm(weather.sun)
        model.light_dir[0] = self.data.light_xdir[0] = direction
        model.light_diffuse[0] = weather.light
        model.vis.headlight.ambient[:] = weather.ambient
        model.mat_emission[model.material("facade").id] = 0.45 * weather.glow
        model.mat_emission[model.material("lamp").id] = weather.glow


class _MeshRenderer(Renderer):
    """A renderer that can be told of rewritten meshes."""

    def upload_meshes(self) -> None:
        self._context.make_current()
        for mesh in range(self._model.nmesh):
            self._mujoco.mjr_uploadMesh(self._model, self._drawing, mesh)


def _palette() -> np.ndarray:
    """uint8 square of one column for each entry of PALETTE."""
    columns = np.array(PALETTE).repeat(PAINT_SIDE // len(PALETTE), axis=0)
    return np.rint(255 * np.broadcast_to(columns, (PAINT_SIDE, PAINT_SIDE, 3))).astype(np.uint8)


def _noise(rng: np.random.Generator, strength: float) -> np.ndarray:
    """uint8 square that repeats: grain over soft spots, almost white."""
    total = np.zeros((TEXTURE_SIDE, TEXTURE_SIDE))
    for cells, share in ((4, 0.35), (16, 0.3), (TEXTURE_SIDE, 0.35)):
        coarse = rng.uniform(-1, 1, (cells, cells))
        total += share * coarse.repeat(TEXTURE_SIDE // cells, 0).repeat(TEXTURE_SIDE // cells, 1)
    image = np.clip(1 - strength + strength * total, 0, 1)
    return np.rint(255 * image[..., None].repeat(3, axis=-1)).astype(np.uint8)


def _facade(rng: np.random.Generator, glow: float) -> np.ndarray:
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


def _model_xml(width: int, height: int) -> str:
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
