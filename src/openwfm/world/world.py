"""What every world answers to, whatever network is inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.files import read_json, sha256_file
from openwfm.provenance import code_state, package_versions
from openwfm.shapes import Temporal
from openwfm.tokenizer import VideoTokenizer
from openwfm.video import fit_size, from_uint8, read_video, to_uint8, write_video
from openwfm.weights import CONFIG, TENSORS
from openwfm.world.frames import condition_latents
from openwfm.world.session import Session

Provenance = dict[str, Any]
TOKEN_SAMPLING = ("temperature", "top_k", "top_p")  # fields of `Sampling` for autoregression


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A generated video ``c t h w`` in [-1, 1] and what made it.

    The first ``provenance["condition"]["frames"]`` frames are the given ones, not generated.
    ``guardrails`` is None: no guardrail has looked at it.
    """

    video: Float[Tensor, "c t h w"]
    fps: float
    provenance: Provenance
    guardrails: None = None

    def save(self, path: Path | str) -> None:
        """An mp4 that carries its provenance (`openwfm.video.read_provenance`)."""
        write_video(path, to_uint8(self.video), self.fps, self.provenance)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Overrides of how a world samples; None keeps what its weights say.

    The first two are for diffusion, the others for autoregression.
    """

    guidance: float | None = None
    num_steps: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.guidance is not None and self.guidance < 0:
            raise ValueError(f"guidance={self.guidance}: must not be negative (0 is off)")
        if self.num_steps is not None and self.num_steps < 1:
            raise ValueError(f"num_steps={self.num_steps}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class WorldFacts:
    """What a world was trained for. ``size``, ``num_frames`` and ``fps`` are None where
    the weights do not say.
    ``max_condition`` counts latent frames; ``size`` is rows, columns.
    """

    temporal: Temporal
    max_condition: int
    needs_frames: bool
    weights_sha256: dict[str, str]
    size: tuple[int, int] | None = None
    num_frames: int | None = None
    fps: float | None = None
    reads_text: bool = True


class World(ABC):
    """Predicts futures of clips. Diffusion and autoregressive worlds answer to this interface."""

    facts: WorldFacts
    tokenizer: VideoTokenizer

    @property
    def device(self) -> torch.device:
        """Where both networks are."""
        return next(self.tokenizer.parameters()).device

    @abstractmethod
    def predict(
        self,
        frames: Float[Tensor, "b c n h w"] | None,
        *,
        text: Float[Tensor, "b n d"] | None,
        num_frames: int,
        fps: Float[Tensor, " b"],
        seed: int,
        sampling: Sampling,
        progress: bool = False,
    ) -> Float[Tensor, "b c t h w"]:
        """Futures of ``frames`` (n = 1 + ratio·k, of a size the tokenizer takes), in [-1, 1].

        ``fps`` sets the batch size. The given frames come back exactly; the others are decoded
        latents. Sample i depends on (seed, i) alone.
        """

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"] | None:
        """Token embeddings of prompts; None when all are empty."""

    @torch.inference_mode()
    def reconstruct(self, videos: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The same videos through the tokenizer only: what no prediction can beat by much."""
        latents = self.tokenizer.encode(videos.to(self.device))
        return self.tokenizer.decode(latents).clamp(-1, 1).cpu()

    @abstractmethod
    def settings(self, sampling: Sampling) -> dict[str, Any]:
        """The sampler's values, overrides applied."""

    def session(
        self,
        frames: Float[Tensor, "b c n h w"],
        *,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
    ) -> Session:
        """A session that begins with ``frames`` (see `beginning`), a row for each.

        Raises ValueError for a world that takes no actions, and for frames that do not fit.
        """
        raise ValueError("session: this world takes no actions")

    def beginning(self, source: Tensor | Path | str) -> Float[Tensor, "c n h w"]:
        """The last frames of a video or picture, as many and as large as a session begins with."""
        frames, _ = self._condition(source, int(self.facts.num_frames or 10**6))
        assert frames is not None
        return frames

    def decode_with(
        self, *, precision: str = "fp32", native: bool = False, keep: int | None = None
    ) -> None:
        """How an autoregressive world decodes (`DecodingConfig`); others take the defaults only."""
        if (precision, native, keep) != ("fp32", False, None):
            raise ValueError(
                f"precision={precision}, native={native}, keep={keep}: only for autoregressive "
                "worlds"
            )

    def notes(self, num_frames: int, given: int) -> Provenance:
        """What else provenance says of a video with ``given`` latent frames of condition."""
        return {}

    @staticmethod
    def load(path: Path | str, *, device: torch.device | str = "cpu") -> World:
        """A run folder (with ``weights/``) or a published folder of weights.

        Raises ValueError naming the file when something is missing, broken or of another kind.
        """
        from openwfm.world.autoregressive import AutoregressiveWorld
        from openwfm.world.diffusion import DiffusionWorld

        folder = weights_folder(path)
        config = read_json(folder / CONFIG)
        if config.get("kind") != "world":
            raise ValueError(
                f"{folder / CONFIG}: kind={config.get('kind')}: must be world to generate"
            )
        families: dict[str, Callable[..., World]] = {
            "diffusion": DiffusionWorld.read,
            "autoregressive": AutoregressiveWorld.read,
        }
        family = str(config.get("family"))
        if family not in families:
            raise ValueError(
                f"{folder / CONFIG}: family={family}: must be one of: {', '.join(families)}"
            )
        return families[family](folder, device=device)

    def generate(
        self,
        *,
        frames: Float[Tensor, "c n h w"] | Path | str | None = None,
        prompt: str = "",
        num_frames: int | None = None,
        seed: int = 0,
        guidance: float | None = None,
        num_steps: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        fps: float | None = None,
        progress: bool = False,
    ) -> Generation:
        """A video that continues ``frames`` (pixels in [-1, 1], or a video file).

        The condition is the last 1 + ratio·(n - 1) frames, with the largest n that the world was
        trained for and that fits; frames of another size are centre-cropped and resized. The
        output begins with these frames, as given; ``num_frames`` (1 + ratio·n) counts them.
        ``num_frames`` and ``fps`` default to the file's (fps) or to training's.

        Raises ValueError naming the argument that does not fit.
        """
        num_frames = _default("num_frames", num_frames, self.facts.num_frames)
        self.facts.temporal.latent_frames(num_frames)
        sampling = Sampling(
            guidance=guidance,
            num_steps=num_steps,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
        condition, source = self._condition(frames, num_frames)
        fps = _default("fps", fps, source.pop("fps", None) or self.facts.fps)
        if not 0 < fps <= 1000:
            raise ValueError(f"fps={fps}: must be above 0 and at most 1000")
        video = self.predict(
            None if condition is None else condition[None],
            text=self.embed([prompt]),
            num_frames=num_frames,
            fps=torch.tensor([fps], dtype=torch.float32),
            seed=seed,
            sampling=sampling,
            progress=progress,
        )[0]
        provenance = self._provenance(
            seed=seed,
            prompt=prompt,
            num_frames=num_frames,
            fps=fps,
            condition=source,
            sampler=self.settings(sampling),
            **self.notes(num_frames, source.get("latent_frames", 0)),
        )
        return Generation(video=video, fps=fps, provenance=provenance)

    def _condition(
        self, frames: Tensor | Path | str | None, num_frames: int
    ) -> tuple[Tensor | None, Provenance]:
        """Condition pixels, and where they come from (with the file's ``fps``)."""
        facts = self.facts
        if frames is None:
            if facts.needs_frames:
                raise ValueError(
                    "frames: missing: this world continues frames, it was never "
                    "trained without them"
                )
            return None, {"frames": 0}
        source: Provenance = {}
        longest = int(facts.temporal.frames(max(1, facts.max_condition)))
        if isinstance(frames, Tensor):
            video = frames
            _check_pixels(video)
        else:
            pixels, source["fps"] = read_video(frames, last=longest)
            video = from_uint8(pixels)
            source |= {"file": Path(frames).name, "file_sha256": sha256_file(frames)}
        count = condition_latents(
            video.shape[1],
            num_frames=num_frames,
            max_latents=facts.max_condition,
            temporal=facts.temporal,
        )
        video = video[:, -int(facts.temporal.frames(count)) :].float()
        if facts.size is not None and tuple(video.shape[-2:]) != facts.size:
            source["resized_from"] = list(video.shape[-2:])
            video = fit_size(video, facts.size)
        return video, source | {"frames": video.shape[1], "latent_frames": count}

    def _provenance(self, **values: Any) -> Provenance:
        code = code_state()
        return {
            "synthetic": True,
            "made_by": "openwfm",
            "weights_sha256": self.facts.weights_sha256,
            "git_commit": code.commit,
            "uncommitted_sha256": code.diff_sha256,
            "packages": package_versions(),
            "condition_pixels": "given frames, not generated",
            **values,
        }


def weights_folder(path: Path | str) -> Path:
    """``path`` itself, or its ``weights/`` when it is a run folder."""
    folder = Path(path)
    for candidate in (folder, folder / "weights"):
        if (candidate / CONFIG).is_file() and (candidate / TENSORS).is_file():
            return candidate
    raise ValueError(
        f"{folder}: neither a run folder (with weights/{CONFIG} and weights/{TENSORS}) nor a "
        f"folder of weights ({CONFIG} and {TENSORS})"
    )


def _check_pixels(video: Tensor) -> None:
    if video.ndim != 4 or video.shape[0] != 3:
        raise ValueError(f"frames: shape {tuple(video.shape)}: must be (3, frames, rows, columns)")
    if not video.is_floating_point():
        raise ValueError(f"frames: {video.dtype}: must be float in [-1, 1]")
    if video.numel() and not bool((video.abs() <= 1.0 + 1e-4).all()):
        raise ValueError("frames: must be finite and in [-1, 1]")


def _default(name: str, value: Any, fallback: Any) -> Any:
    if value is not None:
        return value
    if fallback is None:
        raise ValueError(f"{name}: missing: the weights do not say it, so give it")
    return fallback
