"""A world whose futures are drawn token by token from a discrete tokenizer's vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.autoregressive.model import AutoregressiveWorldModel, load_autoregressive_model
from openwfm.autoregressive.quantized import Precision
from openwfm.autoregressive.runtime import DecodingConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.autoregressive.windows import described
from openwfm.files import read_json, sha256_file
from openwfm.posttraining import CONTEXTS
from openwfm.randomness import torch_generator
from openwfm.text import TextEncoder, embed_prompts, text_encoder
from openwfm.tokenizer import VideoTokenizer, load_tokenizer
from openwfm.weights import CONFIG, TENSORS
from openwfm.world.generation import TOKEN_SAMPLING, Sampling, WorldFacts
from openwfm.world.world import World


class AutoregressiveWorld(World):
    """Both networks in eval mode, fp32, on one device.

    ``decoding`` may be set: in less precision, in the compiled loop, with other windows.
    """

    def __init__(
        self,
        model: AutoregressiveWorldModel,
        tokenizer: VideoTokenizer,
        facts: WorldFacts,
        decoding: DecodingConfig | None = None,
    ) -> None:
        self.model, self.tokenizer, self.facts = model, tokenizer, facts
        self.decoding = decoding or DecodingConfig()

    @classmethod
    def read(cls, folder: Path, *, device: torch.device | str = "cpu") -> AutoregressiveWorld:
        """Raises ValueError when the tokenizer beside the weights is not that of its training."""
        model = load_autoregressive_model(folder, CONTEXTS).to(device).requires_grad_(False)
        tokenizer = load_tokenizer(folder / "tokenizer").to(device).eval().requires_grad_(False)
        found = sha256_file(folder / "tokenizer" / TENSORS)
        if found != model.tokenizer_sha256:
            raise ValueError(
                f"{folder / 'tokenizer'}: its weights are {found[:12]}: must be "
                f"{model.tokenizer_sha256[:12]}, whose tokens this world was trained on"
            )
        data = read_json(folder / CONFIG).get("data") or {}
        size = data.get("size")
        facts = WorldFacts(
            temporal=tokenizer.temporal,
            max_condition=model.objective.max_frames,
            needs_frames=model.objective.min_frames > 0,
            weights_sha256={"world": sha256_file(folder / TENSORS), "tokenizer": found},
            size=(int(size[0]), int(size[1])) if size else None,
            num_frames=data.get("num_frames"),
            fps=data.get("fps"),
            reads_text=model.config.context_width is not None,
        )
        return cls(model, tokenizer, facts)

    @cached_property
    def _encoder(self) -> TextEncoder:
        return text_encoder(self.model.text.encoder)

    def settings(self, sampling: Sampling) -> dict[str, Any]:
        return asdict(self._sampler(sampling))

    def _sampler(self, sampling: Sampling) -> SamplerConfig:
        for name in ("guidance", "num_steps"):
            if getattr(sampling, name) is not None:
                raise ValueError(
                    f"{name}={getattr(sampling, name)}: an autoregressive world has none; "
                    "use temperature, top_p or top_k"
                )
        given = {
            name: getattr(sampling, name)
            for name in TOKEN_SAMPLING
            if getattr(sampling, name) is not None
        }
        return replace(self.model.sampler, **given)

    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"] | None:
        width = self.model.config.context_width
        if width is None:
            if any(prompt.strip() for prompt in prompts):
                raise ValueError("prompt: this world has no cross-attention, so it reads no text")
            return None
        return embed_prompts(lambda: self._encoder, prompts, width, self.model.text.tokens)

    @torch.inference_mode()
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
        """Clips are drawn one by one, so that each depends on (seed, its number) alone."""
        given = None if frames is None else self.tokenizer.encode_indices(frames.to(self.device))
        count = int(self.facts.temporal.latent_frames(num_frames))
        rows = [
            self.model.generate(
                None if given is None else given[i : i + 1],
                count,
                text=None if text is None else text[i : i + 1].to(self.device),
                sampler=self._sampler(sampling),
                generator=torch_generator(seed, "sample/tokens", i),
                decoding=self.decoding,
            )
            for i in range(len(fps))
        ]
        videos = self.tokenizer.decode_indices(torch.cat(rows).int()).clamp(-1, 1).cpu()
        if frames is not None:
            videos[:, :, : frames.shape[2]] = frames.cpu()
        return videos

    @torch.no_grad()
    def stream(
        self,
        frames: Float[Tensor, "c n h w"],
        *,
        prompt: str = "",
        num_frames: int | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Float[Tensor, "c k h w"]]:
        """Pixels in [-1, 1], latent frame by latent frame, each as soon as its last token is drawn.

        First those of the given ``frames`` (n = 1 + ratio·k), then the future up to ``num_frames``;
        they are those of `predict`, but that given frames come back decoded. Beyond ``net.grid``
        they come window by window, in memory that does not grow. Raises ValueError for frame
        counts that do not fit.
        """
        facts, model = self.facts, self.model
        num_frames = facts.num_frames if num_frames is None else num_frames
        if num_frames is None:
            raise ValueError("num_frames: missing: the weights do not say it, so give it")
        total = int(facts.temporal.latent_frames(num_frames))
        given = self.tokenizer.encode_indices(frames[None].to(self.device))
        model.windows(given.shape[1], total, self.decoding)
        decoder = self.tokenizer.stream_decoder()
        yield self._decoded(decoder, given)
        text = self.embed([prompt])
        made = model.stream(
            given,
            total,
            text=None if text is None else text.to(self.device),
            sampler=self._sampler(sampling or Sampling()),
            generator=torch_generator(seed, "sample/tokens", 0),
            decoding=self.decoding,
        )
        for frame in made:
            yield self._decoded(decoder, frame[:, None])
        decoder.finish()

    def decode_with(
        self, *, precision: str = "fp32", native: bool = False, keep: int | None = None
    ) -> None:
        # The value is checked there.
        self.decoding = DecodingConfig(
            precision=cast("Precision", precision), native=native, keep=keep
        )

    def notes(self, num_frames: int, given: int) -> dict[str, Any]:
        """How tokens were decoded, and the windows of a video longer than one."""
        total = int(self.facts.temporal.latent_frames(num_frames))
        windows = self.model.windows(given, total, self.decoding)
        decoding = {"precision": self.decoding.precision, "native": self.decoding.native}
        return {"decoding": decoding, **described(windows, self.model.config.grid[0])}

    def _decoded(self, decoder: Any, indices: Int[Tensor, "1 k y x"]) -> Float[Tensor, "c t h w"]:
        codes = self.tokenizer.codes(indices.int())
        pixels: Tensor = decoder.push(codes)[0]
        return pixels.clamp(-1, 1).cpu()
