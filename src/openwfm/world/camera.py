"""A world that shows what a camera sees on its way (arXiv 2501.03575, section 6.1).

It starts from a picture. Videos longer than training's are made in chunks: each begins with the
last frame of the one before, coded as a picture, and sees its part of the path from there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.diffusion.control import Controls
from openwfm.posttraining.camera_path import MOVE_FOVY, CameraPath, pinhole
from openwfm.posttraining.rays import check_intrinsics, check_poses, resized_intrinsics
from openwfm.randomness import derive_seed
from openwfm.shapes import LatentFrames
from openwfm.world.diffusion import DiffusionWorld
from openwfm.world.generation import Sampling
from openwfm.world.long import Chunk, one_pass, plan_chunks
from openwfm.world.session import ActionSpace, Noise, Session, SessionState


class CameraWorld(DiffusionWorld):
    """Needs a path: `along` gives the same world with one."""

    path: Controls | None = None

    def along(self, camera: CameraPath | Controls) -> CameraWorld:
        """This world on a path: one for all rows of a batch, or (`Controls`) one for each.

        Raises ValueError for cameras that are none, or of pictures of another shape.
        """
        controls = camera if isinstance(camera, Controls) else _controls(camera)
        if controls.intrinsics is None or controls.camera_to_world is None or not controls.size:
            raise ValueError("camera: must have intrinsics, camera_to_world and size")
        check_intrinsics(controls.intrinsics)
        check_poses(controls.camera_to_world)
        wanted, found = self.facts.size or controls.size, controls.size
        if abs(math.log(wanted[0] / wanted[1]) - math.log(found[0] / found[1])) > 0.02:
            raise ValueError(
                f"camera.size={found[0]}x{found[1]}: must have the shape of this world's pictures, "
                f"{wanted[0]}x{wanted[1]} (rows x columns)"
            )
        other = CameraWorld(self.model, self.tokenizer, self.facts)
        other.path = replace(
            controls,
            intrinsics=resized_intrinsics(controls.intrinsics, found, wanted),
            size=wanted,
        )
        return other

    def chunks(self, num_frames: int, sampling: Sampling) -> list[Chunk]:
        if sampling.chunking is not None:
            raise ValueError("chunking: a camera world overlaps by one picture; leave it out")
        trained, total = self.facts.num_frames, self.facts.temporal.latent_frames(num_frames)
        if trained is None or num_frames <= trained:
            return []
        window, one = self.facts.temporal.latent_frames(trained), LatentFrames(1)
        return plan_chunks(total, window=window, overlap=one, limit=one)

    def part(self, batch: int, start: int, count: int) -> Controls:
        """Frames ``start`` on of the path; the last camera stays where there are no more."""
        path = self.path
        if path is None or path.intrinsics is None or path.camera_to_world is None:
            raise ValueError("camera: missing: this world follows a camera path")
        if len(path.intrinsics) not in (1, batch):
            raise ValueError(f"camera: {len(path.intrinsics)} paths: must be {batch}, or one")
        index = torch.arange(start, start + count).clamp(max=path.intrinsics.shape[1] - 1)
        return replace(
            path,
            intrinsics=path.intrinsics[:, index].expand(batch, -1, -1, -1).to(self.device),
            camera_to_world=path.camera_to_world[:, index]
            .expand(batch, -1, -1, -1)
            .to(self.device),
        )

    @torch.inference_mode()
    def stream(
        self,
        frames: Float[Tensor, "b c n h w"] | None,
        *,
        texts: Sequence[Float[Tensor, "b n d"] | None],
        num_frames: int,
        fps: Float[Tensor, " b"],
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Iterator[Float[Tensor, "b c t h w"]]:
        """As every diffusion world's. Raises ValueError for a path of another length."""
        if frames is None:
            raise ValueError("frames: missing: this world starts from a picture")
        path, ratio = self.path, self.facts.temporal.ratio
        if path is not None and path.intrinsics is not None:
            length = path.intrinsics.shape[1]
            if length != num_frames:
                raise ValueError(f"camera: {length} frames: must be num_frames={num_frames}")
        total = self.facts.temporal.latent_frames(num_frames)
        picture = frames[:, :, -1:]
        yield picture.cpu()
        for chunk in self.chunks(num_frames, sampling) or [one_pass(total)]:
            text = texts[min(chunk.number, len(texts) - 1)]
            count = int(self.facts.temporal.frames(chunk.length))
            latents = self.model.generate_latents(
                condition=self.tokenizer.encode(picture.to(self.device)),
                num_latent_frames=int(chunk.length),
                text=None if text is None else text.to(self.device),
                fps=fps.to(self.device),
                seed=derive_seed(seed, "chunk", chunk.number) if chunk.number else seed,
                sampler=self._sampler(sampling),
                controls=self.part(len(fps), ratio * int(chunk.start), count),
                progress=progress,
            )
            pixels = self.tokenizer.decode(latents).clamp(-1, 1).cpu()
            new = int(chunk.new) - (0 if chunk.number else 1)
            yield pixels[:, :, 1 : 1 + ratio * new]
            picture = pixels[:, :, -1:]

    def session(
        self,
        frames: Float[Tensor, "b c n h w"],
        *,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        fovy: float = MOVE_FOVY,
    ) -> CameraSession:
        """Begins with the last of ``frames``. A step is one chunk, through which the camera moves
        evenly; `CameraSession.clip` holds its frames."""
        size = (int(frames.shape[-2]), int(frames.shape[-1]))
        lens = pinhole(size, fovy)
        last = frames[:, :, -1].cpu()
        return CameraSession(self, lens, last[:, :, None], last, seeds, sampling or Sampling())


class CameraSession(Session):
    """Remembers the frames of the last chunk, of which the last is the next one's picture."""

    def __init__(
        self,
        world: CameraWorld,
        lens: Float[Tensor, "3 3"],
        clip: Float[Tensor, "b c t h w"],
        frames: Float[Tensor, "b c h w"],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> None:
        super().__init__({"clip": clip}, frames, seeds)
        self.world, self.lens, self.sampling = world, lens, sampling
        self.count = int(world.facts.num_frames or world.facts.temporal.frames(2))
        self.fps = float(world.facts.fps or 24.0)
        seconds = (self.count - 1) / self.fps
        self.actions = ActionSpace(
            names=("right", "down", "forward", "turn_right", "look_down"),
            units=("m/s", "m/s", "m/s", "degrees/s", "degrees/s"),
            low=(-1.0, -0.5, -1.0, -24.0, -15.0),
            high=(1.0, 0.5, 1.0, 24.0, 15.0),
            rate=1 / seconds,
        )

    @property
    def clip(self) -> Float[Tensor, "b c t h w"]:
        """The frames of the last step, in time order."""
        return self._memory["clip"]

    def advance(
        self, memory: Mapping[str, Tensor], actions: Float[Tensor, "b a"], noise: Noise
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b c h w"]]:
        poses = torch.stack([steady(action, self.count, self.fps) for action in actions])
        size = (int(self.frames.shape[-2]), int(self.frames.shape[-1]))
        lenses = self.lens.expand(len(actions), self.count, -1, -1)
        world = self.world.along(Controls(intrinsics=lenses, camera_to_world=poses, size=size))
        # Each row's noise is that of (its seed, its step): rows are made one by one.
        rows = []
        for row, (seed, step) in enumerate(noise.rows):
            alone = self.world.along(world.part(len(actions), 0, self.count).rows([row]))
            made = alone.predict(
                memory["clip"][row : row + 1, :, -1:],
                text=None,
                num_frames=self.count,
                fps=torch.tensor([self.fps]),
                seed=derive_seed(seed, "session/camera", step),
                sampling=self.sampling,
            )
            rows.append(made[:, :, 1:])
        clip = torch.cat(rows)
        return {"clip": clip}, clip[:, :, -1]

    def clone(self, state: SessionState) -> CameraSession:
        other = CameraSession(
            self.world, self.lens, state.memory["clip"], state.frames, state.seeds, self.sampling
        )
        other.restore(state)
        return other


def steady(action: Float[Tensor, " a"], count: int, fps: float) -> Float[Tensor, "t 4 4"]:
    """Poses of a camera that moves and turns evenly, in its own axes; see `CameraSession`."""
    right, down, forward, turn, look = (float(value) / fps for value in action)
    yaw, pitch = math.radians(turn), math.radians(look)
    about_y = torch.tensor(
        [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    )
    # Looking down turns z (forward) towards y (down).
    about_x = torch.tensor(
        [[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]]
    )
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3] = (about_y @ about_x).double()
    motion[:3, 3] = torch.tensor([right, down, forward], dtype=torch.float64)
    poses = [torch.eye(4, dtype=torch.float64)]
    for _ in range(count - 1):
        poses.append(poses[-1] @ motion)
    return torch.stack(poses).float()


def _controls(path: CameraPath) -> Controls:
    return Controls(
        intrinsics=path.intrinsics[None], camera_to_world=path.camera_to_world[None], size=path.size
    )
