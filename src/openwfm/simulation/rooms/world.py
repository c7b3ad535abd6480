"""The world of rooms: one model, compiled once, whose fields are rewritten for every clip."""

from __future__ import annotations

import numpy as np

from openwfm.data.members import CameraTrack
from openwfm.extras import require
from openwfm.randomness import numpy_generator
from openwfm.simulation.lens import Lens
from openwfm.simulation.render import Renderer
from openwfm.simulation.rooms.captions import describe
from openwfm.simulation.rooms.config import RoomsConfig
from openwfm.simulation.rooms.layout import MAX_PARTS, Room, draw_room
from openwfm.simulation.rooms.paint import GRAINS, IMAGES, PICTURE, SKY, SOLID, SURFACES, paint
from openwfm.simulation.rooms.parts import Solids
from openwfm.simulation.rooms.paths import CameraPath, draw_path
from openwfm.simulation.worlds import WorldClip

HIDDEN_GROUP = 4  # geoms of groups 3 to 5 are not drawn
SEEN_SHARE, MAX_NAMED = 0.012, 6  # of a frame's pixels, before a caption names a thing
FAR = 60.0  # metres: the depth of the sky
INDOOR_LIGHT, OUTDOOR_LIGHT = (0.68, 0.40), (0.60, 0.55)  # ambient, and along the light


class RoomsWorld:
    """Films clips; each depends on (config, seed, index) alone."""

    def __init__(self, config: RoomsConfig, seed: int, backend: str) -> None:
        self._config, self._seed = config, seed
        self._mujoco = mj = require("mujoco", extra="simulation")
        large = config.supersample * np.array([config.width, config.height])
        self._model = mj.MjModel.from_xml_string(_model_xml(*large.tolist()))
        self._data = mj.MjData(self._model)
        mj.mj_forward(self._model, self._data)
        self._renderer = Renderer(
            self._model, backend, config.width, config.height, config.supersample, MAX_PARTS + 8
        )
        self._materials = {
            self._model.material(index).name: index for index in range(self._model.nmat)
        }
        self._types = {
            shape: getattr(mj.mjtGeom, f"mjGEOM_{shape.upper()}").value
            for shape in ("box", "cylinder", "ellipsoid")
        }

    def close(self) -> None:
        self._renderer.close()

    def film(self, index: int) -> WorldClip:
        config = self._config
        group = index // config.clips_per_room
        rng = numpy_generator(self._seed, "rooms/room", group)
        room = draw_room(rng, str(rng.choice(config.kinds)))
        solids = Solids.of(room.things)
        way = numpy_generator(self._seed, "rooms/path", index)
        lens = Lens(width=config.width, height=config.height, fovy=float(way.uniform(*config.fovy)))
        motion = str(way.choice(config.motions))
        seconds = np.arange(config.num_frames) / config.fps
        path = draw_path(way, room, solids, motion, lens, seconds)
        self._dress(room, paint(room, numpy_generator(self._seed, "rooms/paint", group)), rng)
        self._furnish(room, solids)
        frames, masks, depth = self._shoot(path, lens, solids)
        names = [thing.name for thing in room.things]
        seen = things_seen(masks, room)
        alone = path.target in seen and names.count(names[path.target]) == 1
        around = names[path.target] if motion == "orbit" and alone else None
        words = numpy_generator(self._seed, "rooms/words", index)
        caption = describe(
            room.kind, [names[i] for i in seen], motion, path.direction, around, words
        )
        intrinsics = np.broadcast_to(lens.intrinsics(), (config.num_frames, 3, 3))
        track = CameraTrack(intrinsics=intrinsics.copy(), camera_to_world=path.poses)
        return WorldClip(
            views={"main": frames},
            fps=config.fps,
            captions={"main": caption},
            group=group,
            tags=("static", room.kind, motion),
            facts=_facts(room, path, lens),
            cameras={"main": track},
            state=_state(room, solids),
            masks={"main": masks},
            mask_names=("background", *names),
            depth={"main": depth},
        )

    def _dress(self, room: Room, painted: dict[str, np.ndarray], rng: np.random.Generator) -> None:
        """Textures and light. Slots that the room does not use are black."""
        model = self._model
        model.tex_data[:] = 0
        for index in range(model.ntex):
            image = painted.get(model.texture(index).name)
            if image is None:
                continue
            start, size = model.tex_adr[index], model.tex_height[index] * model.tex_width[index] * 3
            model.tex_data[start : start + size] = np.resize(image.ravel(), size)
        self._renderer.upload_textures()
        ambient, along = INDOOR_LIGHT if room.indoors else OUTDOOR_LIGHT
        strength = float(rng.uniform(0.9, 1.08))
        model.vis.headlight.ambient[:] = ambient * strength
        model.light_diffuse[0] = along * strength * np.array([1.0, 0.97, 0.9])
        model.light_diffuse[1] = 0.3 * along * strength * np.array([0.85, 0.93, 1.0])
        light = np.asarray(room.light) / np.linalg.norm(room.light)
        self._data.light_xdir[0] = light
        self._data.light_xdir[1] = light * (-1, -1, -0.35)

    def _furnish(self, room: Room, solids: Solids) -> None:
        """The model's geoms in the order of the parts. Nothing is simulated, so the places that
        kinematics would compute are written as they are."""
        model, data = self._model, self._data
        parts = [part for thing in room.things for part in thing.parts]
        assert len(parts) <= MAX_PARTS, len(parts)
        used = slice(0, len(parts))
        model.geom_group[:] = HIDDEN_GROUP
        model.geom_group[used] = 0
        model.geom_type[used] = [self._types[part.shape] for part in parts]
        model.geom_size[used] = [part.size for part in parts]
        model.geom_matid[used] = [self._materials[part.texture] for part in parts]
        model.geom_rgba[used, :3] = [part.colour for part in parts]
        data.geom_xpos[used] = solids.centres
        data.geom_xmat[used] = solids.rotations.reshape(-1, 9)

    def _shoot(
        self, path: CameraPath, lens: Lens, solids: Solids
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """uint8 ``t h w c``, uint8 masks ``t h w`` (0 the sky, else thing + 1), float16 depth."""
        labels = np.append(solids.owners + 1, 0).astype(np.uint8)  # the last answers to geom -1
        frames, masks, depth = [], [], []
        for pose in path.poses:
            frames.append(self._renderer.render(self._data, lens.fovy, pose))
            geoms, metres = self._renderer.render_truth(self._data, lens.fovy, pose)
            masks.append(labels[geoms])
            depth.append(np.where(geoms < 0, FAR, metres))
        return np.stack(frames), np.stack(masks), np.stack(depth).astype(np.float16)


def things_seen(masks: np.ndarray, room: Room) -> list[int]:
    """Indices of what a caption may name, the largest first: things that cover enough pixels of
    some frame. Equal names count as one of the MAX_NAMED."""
    size = masks[0].size
    counts = np.stack([np.bincount(frame.ravel(), minlength=256) for frame in masks])
    peak, total = counts.max(0)[1:], counts.sum(0)[1:]
    seen = [
        index
        for index, thing in enumerate(room.things)
        if not thing.surface and peak[index] >= SEEN_SHARE * size
    ]
    seen.sort(key=lambda index: (-int(total[index]), index))
    kept = list(dict.fromkeys(room.things[index].name for index in seen))[:MAX_NAMED]
    return [index for index in seen if room.things[index].name in kept]


def _facts(room: Room, path: CameraPath, lens: Lens) -> dict[str, object]:
    return {
        "room": room.kind,
        "indoors": room.indoors,
        "room_size": list(room.size),
        "motion": path.motion,
        "direction": path.direction,
        "path_length": path.length,
        "num_objects": sum(not thing.surface for thing in room.things),
        "fovy": lens.fovy,
    }


def _state(room: Room, solids: Solids) -> dict[str, np.ndarray]:
    """Things ``n``: middles and full sizes along the world's axes, names; parts ``m``: oriented
    boxes around them, and the thing that each belongs to."""
    low, high = solids.bounds()
    return {
        "position": (low + high) / 2,
        "size": high - low,
        "name": np.array([thing.name for thing in room.things]),
        "part_position": solids.centres,
        "part_rotation": solids.rotations,
        "part_half_size": solids.halves,
        "part_shape": np.array([part.shape for thing in room.things for part in thing.parts]),
        "part_thing": solids.owners,
    }


def _model_xml(width: int, height: int) -> str:
    slots = {slot: ("2d", size[1], size[0]) for slot, size in SURFACES.items()}
    slots |= {slot: ("2d", PICTURE, PICTURE) for slot in IMAGES}
    slots |= {slot: ("cube", SOLID, 6 * SOLID) for slot in GRAINS}
    textures = "".join(
        f'<texture name="{slot}" type="{kind}" builtin="flat" width="{w}" height="{h}"/>'
        f'<material name="{slot}" texture="{slot}" specular="0.15" shininess="0.1"/>'
        for slot, (kind, w, h) in slots.items()
    )
    geom = f'<geom type="box" size="1 1 1" contype="0" conaffinity="0" group="{HIDDEN_GROUP}"/>'
    return f"""
<mujoco model="rooms">
  <statistic extent="1" center="0 0 0"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality offsamples="0" shadowsize="0" numslices="16" numstacks="10" numquads="1"/>
    <map znear="0.05" zfar="{FAR}"/>
    <headlight active="1" ambient="0.5 0.5 0.5" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="flat" width="{SKY}" height="{6 * SKY}"/>
    {textures}
  </asset>
  <worldbody>
    <light type="directional" pos="0 0 9" castshadow="false" specular="0 0 0"/>
    <light type="directional" pos="0 0 9" castshadow="false" specular="0 0 0"/>
    {geom * MAX_PARTS}
  </worldbody>
</mujoco>"""
