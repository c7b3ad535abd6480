"""The studio: one MuJoCo model, compiled once, whose meshes and colours are rewritten for every
clip. MuJoCo only renders here; everything moves on rails."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from openwfm.extras import require
from openwfm.simulation.driving.config import MAX_AGENTS, DrivingConfig
from openwfm.simulation.driving.model import (
    LAYERS,
    MASK_NAMES,
    PARTS,
    facade,
    model_xml,
    noise,
    palette,
)
from openwfm.simulation.driving.quads import EMPTY, Quads
from openwfm.simulation.driving.scenery import NUM_CROWNS, NUM_FACADES
from openwfm.simulation.driving.vehicles import COLOURS, KINDS, body, lamps
from openwfm.simulation.driving.weather import Weather, sky
from openwfm.simulation.render import Renderer
from openwfm.simulation.worlds import ClipRejectedError

OUT_OF_SIGHT = 150.0
BRAKE = -0.7  # m/s²: harder than that lights the brake lamps

SIGNALS = {"red": (1.0, 0.10, 0.06), "amber": (1.0, 0.66, 0.05), "green": (0.10, 0.95, 0.45)}


class Studio:
    """Films what it was dressed for; nothing of the clip before is left."""

    def __init__(self, config: DrivingConfig, backend: str) -> None:
        self._mujoco = mj = require("mujoco", extra="simulation")
        self.fovy = config.fovy
        large = (config.width * config.supersample, config.height * config.supersample)
        self.model = mj.MjModel.from_xml_string(model_xml(*large))
        self.data = mj.MjData(self.model)
        mj.mj_forward(self.model, self.data)
        self.renderer = Renderer(
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
        self._texture("paint", palette())
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

    def truth(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 ``h w``, indices into MASK_NAMES, then the vehicles; and float32 ``h w`` metres."""
        geoms, depth = self.renderer.render_truth(self.data, self.fovy, pose)
        return self._labels[geoms + 1], depth

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
        images = {"ground": noise(rng, 0.16), "asphalt": noise(rng, 0.10),
                  "facade": facade(rng, weather.glow), "sky": sky(weather, rng)}  # fmt: skip
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
