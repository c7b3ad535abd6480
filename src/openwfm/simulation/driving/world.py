"""A driving world: index → episode → six filmed views with their truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from openwfm.data.members import CameraTrack
from openwfm.randomness import numpy_generator
from openwfm.simulation.driving.boxes import picture_boxes, visibility
from openwfm.simulation.driving.captions import describe
from openwfm.simulation.driving.config import DrivingConfig
from openwfm.simulation.driving.episodes import Episode, draw_episode
from openwfm.simulation.driving.model import MASK_NAMES
from openwfm.simulation.driving.rig import VIEWS, car_poses, extrinsics
from openwfm.simulation.driving.scenery import build
from openwfm.simulation.driving.studio import Studio
from openwfm.simulation.driving.surface import lay
from openwfm.simulation.driving.traffic import RATE
from openwfm.simulation.driving.vehicles import KINDS
from openwfm.simulation.driving.weather import (
    HIDDEN,
    Rain,
    Weather,
    clearness,
    draw_weather,
    through_haze,
)
from openwfm.simulation.lens import Lens
from openwfm.simulation.worlds import WorldClip


class DrivingWorld:
    def __init__(self, config: DrivingConfig, seed: int, backend: str) -> None:
        self.config, self.seed = config, seed
        self.lens = Lens(width=config.width, height=config.height, fovy=config.fovy)
        self.studio = Studio(config, backend)

    def close(self) -> None:
        self.studio.close()

    def film(self, index: int) -> WorldClip:
        config = self.config
        behaviour = config.behaviours[index % len(config.behaviours)]
        episode = draw_episode(
            self._random("episode", index), behaviour, fps=config.fps,
            num_frames=config.num_frames, max_agents=config.max_agents,
        )  # fmt: skip
        look = self._random("look", index)
        weather = draw_weather(look, str(look.choice(config.weathers)))
        self.dress(episode, weather, look)
        state = truth(episode)
        cameras = self.cameras(state["ego_to_world"])
        views, masks, clear = self._shoot(episode, weather, state, cameras, index)
        for view in VIEWS:
            boxes = picture_boxes(masks[view], len(MASK_NAMES), len(episode.drivers) - 1)
            state[f"boxes_{view}"], state[f"pixels_{view}"] = boxes
            state[f"visibility_{view}"] = visibility(
                masks[view], cameras[view], state["agent_centre"], state["agent_size"],
                state["agent_yaw"], len(MASK_NAMES),
            )  # fmt: skip
        captions = describe(
            episode, weather.name, clear, cameras, state, self._random("caption", index)
        )
        num_agents = len(episode.drivers) - 1
        return WorldClip(
            views=views,
            fps=float(config.fps),
            captions=captions,
            group=index,
            tags=(behaviour, weather.name, episode.setting),
            facts=facts(episode, weather, state),
            cameras=cameras,
            trajectory=episode.trajectory(),
            state=state,
            masks=masks,
            mask_names=(*MASK_NAMES, *(f"agent {i}" for i in range(num_agents))),
        )

    def dress(self, episode: Episode, weather: Weather, rng: np.random.Generator) -> None:
        """Build the town of an episode around the car's way, and its vehicles."""
        way = episode.poses(episode.steps)[0][:, 0]
        layers = lay(episode.town, episode.setting, yellow=bool(rng.random() < 0.5))
        layers |= build(rng, episode.town, episode.setting, episode.rules, way, weather.shadow)
        self.studio.dress(layers, weather, episode.setting == "country", rng)
        others = episode.drivers[1:]
        self.studio.cast([d.kind for d in others], [d.colour for d in others], weather)

    def pose_at(self, episode: Episode, state: dict[str, np.ndarray], frame: int) -> None:
        """Move everything to where it is at a frame."""
        step = episode.steps[frame]
        self.studio.place(
            state["agent_centre"][frame], state["agent_yaw"][frame],
            episode.flow.accelerations[step, 1:], state["ego_to_world"][frame, :2, 3],
        )  # fmt: skip
        for road, origin in (("main", "west"), ("side", "south")):
            self.studio.signal(road, episode.rules.colour(origin, step / RATE))

    def cameras(self, ego_to_world: np.ndarray) -> dict[str, CameraTrack]:
        intrinsics = np.tile(self.lens.intrinsics(), (len(ego_to_world), 1, 1))
        return {
            view: CameraTrack(
                intrinsics=intrinsics, camera_to_world=ego_to_world @ extrinsics(view)
            )
            for view in VIEWS
        }

    def _shoot(
        self, episode: Episode, weather: Weather, state: dict[str, np.ndarray],
        cameras: dict[str, CameraTrack], index: int,
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:  # fmt: skip
        """Pictures, masks, and masks of what the haze lets see, by view."""
        height, width = self.config.height, self.config.width
        size = (len(VIEWS), self.config.num_frames, height, width)
        pictures, labels = np.empty((*size, 3), np.uint8), np.empty(size, np.uint8)
        hidden = np.zeros(size, bool)
        rains = [
            Rain(self._random(f"rain/{view}", index), height, width, weather.rain) for view in VIEWS
        ]
        rays = _ray_lengths(self.lens)
        for frame in range(self.config.num_frames):
            self.pose_at(episode, state, frame)
            for number, view in enumerate(VIEWS):
                pose = cameras[view].camera_to_world[frame]
                picture = self.studio.picture(pose)
                labels[number, frame], depth = self.studio.truth(pose)
                if weather.sight is not None:
                    air = clearness(depth * rays, weather)
                    picture = through_haze(picture, air, weather)
                    hidden[number, frame] = air < HIDDEN
                if weather.rain:
                    picture = rains[number].fall(picture)
                pictures[number, frame] = picture
        clear = np.where(hidden, MASK_NAMES.index("sky"), labels)
        by_view = (dict(zip(VIEWS, images, strict=True)) for images in (pictures, labels, clear))
        views, masks, seen = by_view
        return views, masks, seen

    def _random(self, purpose: str, index: int) -> np.random.Generator:
        return numpy_generator(self.seed, f"driving/{purpose}", index)


def _ray_lengths(lens: Lens) -> np.ndarray:
    """float32 ``h w``: metres along a pixel's ray for each metre of depth."""
    x = (np.arange(lens.width) + 0.5 - lens.width / 2) / lens.focal
    y = (np.arange(lens.height) + 0.5 - lens.height / 2) / lens.focal
    return np.sqrt(1 + x**2 + y[:, None] ** 2).astype(np.float32)


def truth(episode: Episode) -> dict[str, np.ndarray]:
    """Where everything is at every frame: metres, m/s, m/s², radians, world axes.

    ``agent_id`` indexes the names of the masks after MASK_NAMES; ``size`` is length, width,
    height.
    """
    steps = episode.steps
    points, headings, curvatures = episode.poses(steps)
    speeds = episode.flow.speeds[steps]
    sizes = np.array([KINDS[d.kind].size for d in episode.drivers[1:]]).reshape(-1, 3)
    shape = (len(steps), len(sizes), 3)
    ahead = np.stack([np.cos(headings), np.sin(headings), np.zeros_like(headings)], axis=-1)
    heights = np.broadcast_to(sizes[:, 2] / 2, shape[:2])
    return {
        "ego_to_world": car_poses(points[:, 0], headings[:, 0]),
        "ego_speed": speeds[:, 0],
        "ego_acceleration": episode.flow.accelerations[steps, 0],
        "ego_curvature": curvatures[:, 0],
        "agent_id": np.arange(len(sizes)),
        "agent_centre": np.concatenate([points[:, 1:], heights[..., None]], axis=-1),
        "agent_size": np.broadcast_to(sizes, shape).copy(),
        "agent_yaw": headings[:, 1:],
        "agent_velocity": speeds[:, 1:, None] * ahead[:, 1:],
    }


def facts(episode: Episode, weather: Weather, state: dict[str, np.ndarray]) -> dict[str, Any]:
    """JSON: what was drawn, and the speeds in m/s."""
    speeds = state["ego_speed"]
    return {
        "behaviour": episode.behaviour,
        "weather": weather.name,
        "setting": episode.setting,
        "roads": sorted(episode.town.arms),
        "lanes": episode.town.lanes["east"],
        "control": episode.rules.control,
        "speed_limit": episode.limit,
        "ego_speeds": [round(float(v), 3) for v in (speeds[0], speeds.mean(), speeds[-1])],
        "num_agents": len(episode.drivers) - 1,
        "agents": [
            {"kind": d.kind, "colour": d.colour, "from": d.route.origin, "to": d.route.exit}
            for d in episode.drivers[1:]
        ],
    }
