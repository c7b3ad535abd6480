"""A world that answers every action with a frame, by diffusion of one frame's latents at a time.

Frames are coded one by one, so latents go from step to step without a decode and an encode between
them (arXiv 2501.03575, section 6.2, rolls out through pixels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.data.members import ActionTrack
from openwfm.diffusion import DiffusionWorldModel
from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.control import Controls
from openwfm.diffusion.frames import decode_frames, encode_frames
from openwfm.diffusion.precondition import denoise
from openwfm.diffusion.runtime import Runtime
from openwfm.diffusion.sampler import sample, solver_sigmas
from openwfm.posttraining.action import ActionConfig, ActionControl
from openwfm.posttraining.action_track import given_actions
from openwfm.randomness import derive_seed
from openwfm.shapes import Temporal
from openwfm.tokenizer import VideoTokenizer
from openwfm.world.diffusion import DiffusionWorld
from openwfm.world.frames import condition_pixels
from openwfm.world.generation import Generation, Sampling, WorldFacts
from openwfm.world.long import Chunk
from openwfm.world.session import ActionSpace, Noise, Session, SessionState
from openwfm.world.world import World


def action_space(config: ActionConfig) -> ActionSpace:
    return ActionSpace(
        names=config.names,
        units=config.units,
        low=config.low,
        high=config.high,
        rate=config.rate,
    )


class NextFrame:
    """The prepared network: latents of the last frames and the last actions to the next latents."""

    def __init__(self, model: DiffusionWorldModel, sampler: SamplerConfig) -> None:
        assert isinstance(model.control, ActionControl)
        self.model, self.sampler, self.config = model, sampler, model.control.config
        self.given = model.conditioner.config.max_frames
        self.runtime = Runtime(model.net, sigmas=solver_sigmas(sampler))
        nothing = torch.zeros(1, 0, model.net.config.text_width, device=model.latent_mean.device)
        self.keys = self.runtime.text_keys(nothing, model.conditioner.config.text_tokens)

    @torch.inference_mode()
    def __call__(
        self,
        latents: Float[Tensor, "b z k y x"],
        actions: Float[Tensor, "b s a"],
        noise: Float[Tensor, "b z n y x"],
        augment: Float[Tensor, "b z n y x"],
    ) -> Float[Tensor, "b z 1 y x"]:
        """Raw latents of the frame after the ``k`` given ones; ``n`` is k + 1."""
        model = self.model
        fps = torch.full((1,), self.config.rate, device=latents.device)
        filled = model.conditioner.sampling(
            model.normalise(latents), augment, self.sampler.condition_sigma, text=None, fps=fps
        )
        ports = model.ports(Controls(action=actions), noise.shape)
        filled = replace(filled, text=self.keys, ports=ports)

        def run(x: Tensor, sigma: Tensor) -> Tensor:
            return denoise(self.runtime, x, sigma, filled, model.objective.sigma_data)

        return model.denormalise(sample(run, noise, self.sampler))[:, :, -1:]


class ActionSession(Session):
    """Remembers the latents of the last frames and the last actions."""

    def __init__(
        self,
        network: NextFrame,
        tokenizer: VideoTokenizer,
        memory: Mapping[str, Tensor],
        frames: Float[Tensor, "b c h w"],
        seeds: Sequence[int],
    ) -> None:
        super().__init__(memory, frames, seeds)
        self.network, self.tokenizer = network, tokenizer
        self.actions = action_space(network.config)

    def advance(
        self, memory: Mapping[str, Tensor], actions: Float[Tensor, "b a"], noise: Noise
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b c h w"]]:
        latents, device = memory["latents"], memory["latents"].device
        known = torch.cat((memory["actions"], actions[:, None].to(device)), dim=1)
        shape = (latents.shape[1], latents.shape[2] + 1, *latents.shape[3:])
        draws = [noise.normal(purpose, shape).to(device) for purpose in ("initial", "condition")]
        made = self.network(latents, known, *draws)
        frames = decode_frames(self.tokenizer, made).clamp(-1, 1)[:, :, 0].cpu()
        kept = {
            "latents": torch.cat((latents, made), dim=2)[:, :, 1:],
            "actions": known[:, 1:],
        }
        return kept, frames

    def clone(self, state: SessionState) -> ActionSession:
        other = ActionSession(self.network, self.tokenizer, state.memory, state.frames, state.seeds)
        other.restore(state)
        return other


class ActionWorld(DiffusionWorld):
    """Frames are latent frames; text is not read."""

    @classmethod
    def of(
        cls, model: DiffusionWorldModel, tokenizer: VideoTokenizer, facts: WorldFacts, folder: Path
    ) -> ActionWorld:
        """Raises ValueError when the model has no action control."""
        if not isinstance(model.control, ActionControl):
            raise ValueError(f"{folder}: frame_by_frame: must have control.kind=action")
        facts = replace(facts, temporal=Temporal(ratio=1), reads_text=False)
        return cls(model, tokenizer, facts)

    @property
    def action(self) -> ActionConfig:
        assert isinstance(self.model.control, ActionControl)
        return self.model.control.config

    def session(
        self,
        frames: Float[Tensor, "b c n h w"],
        *,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        actions: Float[Tensor, "b s a"] | None = None,
    ) -> ActionSession:
        """Begins with the last of ``frames``; ``actions`` are those between them.

        Where there are fewer than the network looks back to, the first frame stands still before
        them and the mean action is done.
        """
        network = NextFrame(self.model, self._sampler(sampling or Sampling()))
        with torch.inference_mode():
            latents = encode_frames(self.tokenizer, frames[:, :, -network.given :].to(self.device))
        missing = network.given - latents.shape[2]
        if missing > 0:
            latents = torch.cat((latents[:, :, :1].expand(-1, -1, missing, -1, -1), latents), dim=2)
        memory = {"latents": latents, "actions": self._before(actions, len(frames))}
        return ActionSession(network, self.tokenizer, memory, frames[:, :, -1].cpu(), seeds)

    def _before(self, actions: Tensor | None, batch: int) -> Float[Tensor, "b s a"]:
        """The ``steps`` - 1 actions before the first one of a session."""
        config, count = self.action, self.action.steps - 1
        rest = torch.tensor(config.mean).expand(batch, count, -1)
        if actions is not None:
            rest = torch.cat((rest, actions.float()), dim=1)
        return rest[:, rest.shape[1] - count :].to(self.device)

    def rollout(
        self,
        frames: Float[Tensor, "b c n h w"],
        actions: Float[Tensor, "b s a"],
        *,
        seed: int,
        sampling: Sampling | None = None,
    ) -> Float[Tensor, "b c s h w"]:
        """The frames that ``actions`` lead to, one each. Sample i depends on (seed, i) alone."""
        seeds = [derive_seed(seed, "rollout", row) for row in range(len(frames))]
        session = self.session(frames, seeds=seeds, sampling=sampling)
        return torch.stack([session.step(action) for action in actions.unbind(1)], dim=2)

    def reconstruct(self, videos: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        with torch.inference_mode():
            latents = encode_frames(self.tokenizer, videos.to(self.device))
            return decode_frames(self.tokenizer, latents).clamp(-1, 1).cpu()

    def acted(self, actions: ActionTrack | Path | str) -> ActingWorld:
        return ActingWorld(self, given_actions(actions, self.action))

    def chunks(self, num_frames: int, sampling: Sampling) -> list[Chunk]:
        return World.chunks(self, num_frames, sampling)

    def predict(self, frames: Any, **arguments: Any) -> Tensor:
        """Raises ValueError: nothing happens here without actions."""
        raise ValueError("actions: missing: this world needs one for every frame; use rollout")

    def stream(self, frames: Any, **arguments: Any) -> Any:
        """As `predict`."""
        raise ValueError("actions: missing: this world needs one for every frame; use session")

    render = predict


class ActingWorld(ActionWorld):
    """An action world in which these ``actions`` are done: a frame after each."""

    def __init__(self, world: ActionWorld, actions: Float[Tensor, "s a"]) -> None:
        super().__init__(world.model, world.tokenizer, world.facts)
        self.actions = actions

    def generate(self, **asked: Any) -> Generation:
        """As of every world; as long as the actions are where ``num_frames`` is not said."""
        steps, rate = len(self.actions), self.action.rate
        if asked.get("fps") not in (None, rate):
            raise ValueError(f"fps={asked['fps']}: must be the actions' rate, {rate}")
        most = steps + self.facts.max_condition
        given, _ = condition_pixels(asked.get("frames"), most, self.facts)
        assert given is not None
        num_frames = asked.get("num_frames") or given.shape[1] + steps
        if not given.shape[1] < num_frames <= given.shape[1] + steps:
            raise ValueError(
                f"num_frames={num_frames}: must be {given.shape[1] + 1} to "
                f"{given.shape[1] + steps}, {given.shape[1]} given and one for each action"
            )
        return super().generate(**{**asked, "num_frames": num_frames, "fps": rate})

    def render(  # type: ignore[override]
        self,
        frames: Float[Tensor, "c n h w"],
        *,
        prompts: Sequence[str],
        num_frames: int,
        fps: float,
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Float[Tensor, "c t h w"]:
        if any(prompt.strip() for prompt in prompts):
            raise ValueError("prompt: this world reads no text; leave it out")
        actions = self.actions[None, : num_frames - frames.shape[1]]
        made = self.rollout(frames[None], actions, seed=seed, sampling=sampling)
        return torch.cat((frames.cpu(), made[0]), dim=1)

    def notes(self, num_frames: int, given: int) -> dict[str, Any]:
        done = self.actions[: num_frames - given]
        return {"actions": {"steps": len(done), "names": list(self.action.names)}}
