"""An autoregressive world model: network, objective, sampler and conditioning in one place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from openwfm.autoregressive.config import TransformerConfig, YarnConfig
from openwfm.autoregressive.context import ContextControl, ContextReader, read_context
from openwfm.autoregressive.generate import stream_tokens
from openwfm.autoregressive.medusa import MedusaConfig, MedusaDrafter, MedusaHeads
from openwfm.autoregressive.objective import (
    NextTokenConfig,
    NextTokenLoss,
    counted_targets,
    next_token_loss,
)
from openwfm.autoregressive.runtime import DecodingConfig
from openwfm.autoregressive.sampling import SamplerConfig
from openwfm.autoregressive.transformer import Transformer
from openwfm.autoregressive.windows import Window, kept_frames, plan_windows
from openwfm.nn.attention import Keys
from openwfm.weights import load_strict, read_fields, read_weights


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Prompts as the network sees them: ``tokens`` of them, zero beyond their length, unmasked.

    ``encoder`` "none" belongs to networks without cross-attention.
    """

    encoder: str = "none"
    tokens: int = 64

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"text.tokens={self.tokens}: must be at least 1")


@dataclass(frozen=True)
class StepDraws:
    """All random numbers of one training step."""

    keep_text: Bool[Tensor, " b"]
    keep_control: Bool[Tensor, " b"] | None = None


class AutoregressiveWorldModel(nn.Module):
    """Token indices in, token indices out; no Lightning, no tokenizer.

    ``tokenizer_sha256`` names the weights whose tokens these are: another tokenizer's mean
    something else. ``control`` adds tokens to the context of a network that has one.
    """

    def __init__(
        self,
        *,
        net: TransformerConfig,
        objective: NextTokenConfig,
        sampler: SamplerConfig,
        text: TextConfig,
        tokenizer_sha256: str,
        medusa: MedusaConfig | None = None,
        control: ContextControl | None = None,
    ) -> None:
        super().__init__()
        if control is not None and net.context_width is None:
            raise ValueError("net.context_width: null: must be set for a control")
        if control is None and (text.encoder == "none") != (net.context_width is None):
            raise ValueError(
                f"text.encoder={text.encoder}: must be none exactly when "
                f"net.context_width={net.context_width} is null"
            )
        if objective.min_frames == 0 and not net.bov:
            raise ValueError(
                f"objective.min_frames={objective.min_frames}: must be at least 1 without net.bov "
                "(nothing foresees the first token)"
            )
        self.net = Transformer(net)
        self.medusa = None if medusa is None else MedusaHeads(net.width, medusa)
        self.control = control
        self.objective, self.sampler, self.text = objective, sampler, text
        self.tokenizer_sha256 = tokenizer_sha256

    @property
    def config(self) -> TransformerConfig:
        return self.net.config

    def drafter(self) -> MedusaDrafter:
        """For `speculate_tokens`. Raises ValueError for a model without Medusa heads."""
        if self.medusa is None:
            raise ValueError("medusa: null: these weights have no heads; train some (model.medusa)")
        return MedusaDrafter(self.medusa, self.net)

    def draw(self, batch: int, generator: torch.Generator) -> StepDraws:
        keep_text = torch.rand(batch, generator=generator) >= self.objective.text_dropout
        if self.control is None:
            return StepDraws(keep_text)
        keep = torch.rand(batch, generator=generator) >= self.control.config.dropout
        return StepDraws(keep_text, keep)

    def sequence(self, indices: Int[Tensor, "b f y x"]) -> Int[Tensor, "b n"]:
        """Tokens in the order of the network, their begin first where there is one.

        Raises ValueError for frames of another size than ``net.grid``.
        """
        if tuple(indices.shape[2:]) != self.config.grid[1:] or indices.ndim != 4:
            raise ValueError(
                f"tokens: frames of {tuple(indices.shape[2:])}: must be "
                f"{self.config.grid[1:]}, the last two of net.grid"
            )
        tokens = indices.flatten(1).long()
        if not self.config.bov:
            return tokens
        begin = tokens.new_full((len(tokens), 1), self.config.vocabulary)
        return torch.cat((begin, tokens), dim=1)

    def hidden(
        self,
        indices: Int[Tensor, "b f y x"],
        draws: StepDraws,
        *,
        text: Float[Tensor, "b n d"] | None,
        actions: Float[Tensor, "b s a"] | None = None,
    ) -> Float[Tensor, "b m d"]:
        """What foresees the last m tokens of clips: all of them with a begin of video, else all
        but the first."""
        sequence = self.sequence(indices)
        context = self.context(text, draws.keep_text, actions, draws.keep_control)
        return self.net.hidden(sequence[:, :-1], context=context)

    def loss(
        self, indices: Int[Tensor, "b f y x"], hidden: Float[Tensor, "b m d"]
    ) -> NextTokenLoss:
        """Of clips and what `hidden` made of them; only what is counted is unembedded."""
        counted = math.prod(indices.shape[1:]) - self.objective.min_frames * indices[0, 0].numel()
        return next_token_loss(
            self.net.logits(hidden[:, -max(1, counted) :]),
            indices.flatten(1),
            self.counted(indices),
            self.config.frame_tokens,
            self.objective.z_loss,
        )

    def counted(self, indices: Int[Tensor, "b f y x"]) -> Bool[Tensor, "b n"]:
        """Which tokens of clips are predicted."""
        given = torch.full((len(indices),), self.objective.min_frames, device=indices.device)
        return counted_targets(given, self.config.frame_tokens, indices.shape[1])

    def context(
        self,
        text: Float[Tensor, "b n d"] | None,
        keep: Bool[Tensor, " b"] | None = None,
        actions: Float[Tensor, "b s a"] | None = None,
        keep_control: Bool[Tensor, " b"] | None = None,
    ) -> list[Keys] | None:
        """Keys of the prompts and of what controls them, padded with null tokens; ``keep`` False
        is no prompt, ``keep_control`` False no control."""
        if self.config.context_width is None:
            return None
        parts = []
        if self.text.encoder != "none":
            if text is None:
                raise ValueError(
                    f"text: missing: this world was made for text.encoder={self.text.encoder}; "
                    "curate with a text stage"
                )
            parts.append(_kept(text[:, : self.text.tokens], keep))
        if self.control is not None:
            parts.append(_kept(self.control(actions), keep_control))
        elif actions is not None:
            raise ValueError("actions: this world takes none; leave them out")
        tokens = torch.cat(parts, dim=1)
        return self.net.context_keys(tokens, max(0, self.text.tokens - tokens.shape[1]))

    def no_text(
        self, batch: int, actions: Float[Tensor, "b s a"] | None = None
    ) -> list[Keys] | None:
        """`context` without a prompt."""
        text = None
        if self.text.encoder != "none":
            text = self.net.embed.weight.new_zeros(batch, 1, self.config.context_width or 0)
        return self.context(text, actions=actions)

    @torch.no_grad()
    def generate(
        self,
        given: Int[Tensor, "b k y x"] | None,
        num_latent_frames: int,
        *,
        text: Float[Tensor, "b n d"] | None = None,
        actions: Float[Tensor, "b s a"] | None = None,
        batch: int = 1,
        sampler: SamplerConfig | None = None,
        generator: torch.Generator | None = None,
        decoding: DecodingConfig | None = None,
    ) -> Int[Tensor, "b f y x"]:
        """Indices of ``num_latent_frames`` frames, of which the first are ``given``.

        Without them ``batch`` clips begin from nothing. More frames than ``net.grid`` has are made
        window by window (`windows`). Raises ValueError when the network cannot begin from nothing.
        """
        given = self._given(given, batch)
        made = self.stream(
            given,
            num_latent_frames,
            text=text,
            actions=actions,
            sampler=sampler,
            generator=generator,
            decoding=decoding,
        )
        return torch.cat((given.long(), torch.stack(list(made), dim=1)), dim=1)

    @torch.no_grad()
    def stream(
        self,
        given: Int[Tensor, "b k y x"],
        num_latent_frames: int,
        *,
        text: Float[Tensor, "b n d"] | None = None,
        actions: Float[Tensor, "b s a"] | None = None,
        sampler: SamplerConfig | None = None,
        generator: torch.Generator | None = None,
        decoding: DecodingConfig | None = None,
    ) -> Iterator[Int[Tensor, "b y x"]]:
        """The frames that `generate` makes, each as soon as its last token is drawn.

        Memory does not grow with their number: beyond a window only the frames carried over stay.
        """
        rows, columns = self.config.grid[1:]
        windows = self.windows(given.shape[1], num_latent_frames, decoding)
        if self.control is not None and len(windows) > 1:
            raise ValueError(
                f"num_latent_frames={num_latent_frames}: must be at most {self.config.grid[0]}, "
                "those that actions were given for in training"
            )
        if text is None:
            context = self.no_text(len(given), actions)
        else:
            context = self.context(text, actions=actions)
        recent = given.long()
        for window in windows:
            recent = recent[:, recent.shape[1] - window.carried :]
            tokens = stream_tokens(
                self.net,
                self.sequence(recent),
                window.made * rows * columns,
                sampler or self.sampler,
                context=context,
                generator=generator,
                decoding=decoding,
            )
            for _ in range(window.made):
                frame = torch.stack(list(islice(tokens, rows * columns)), dim=1)
                frame = frame.view(-1, rows, columns)
                recent = torch.cat((recent, frame[:, None]), dim=1)
                yield frame

    def windows(
        self, given: int, num_latent_frames: int, decoding: DecodingConfig | None = None
    ) -> list[Window]:
        """How `stream` gets from ``given`` frames to ``num_latent_frames``. A window's first
        frame, which stands for a single frame of pixels in training, is one of several here."""
        longest = self.config.grid[0]
        keep = kept_frames(decoding, self.objective.max_frames, longest)
        return plan_windows(given, num_latent_frames, longest, keep)

    def _given(self, given: Int[Tensor, "b k y x"] | None, batch: int) -> Int[Tensor, "b k y x"]:
        if given is not None:
            return given
        if not self.config.bov:
            raise ValueError("frames: missing: a world without net.bov continues frames")
        empty = self.net.embed.weight.new_zeros(batch, 0, *self.config.grid[1:])
        return empty.long()

    def export_config(self) -> dict[str, Any]:
        return {
            "kind": "world",
            "family": "autoregressive",
            "net": asdict(self.config),
            "objective": asdict(self.objective),
            "sampler": asdict(self.sampler),
            "text": asdict(self.text),
            "tokenizer_sha256": self.tokenizer_sha256,
            "medusa": None if self.medusa is None else asdict(self.medusa.config),
            **({} if self.control is None else {"control": self.control.export_config()}),
        }


def _kept(tokens: Float[Tensor, "b n d"], keep: Bool[Tensor, " b"] | None) -> Tensor:
    return tokens if keep is None else tokens * keep.to(tokens.device)[:, None, None]


def load_autoregressive_model(
    folder: Path | str, controls: Mapping[str, ContextReader] | None = None
) -> AutoregressiveWorldModel:
    """The model of a published folder, in eval mode; ``controls`` are the kinds it may have.

    Raises ValueError when anything differs.
    """
    config, tensors = read_weights(folder, kind="world")
    source = str(Path(folder))
    parts = {"net", "objective", "sampler", "text", "tokenizer_sha256"}
    if config.get("family") != "autoregressive" or not parts <= set(config):
        raise ValueError(
            f"{source}: config.json: must have family=autoregressive and {sorted(parts)}"
        )
    net = dict(config["net"])
    if net.get("yarn") is not None:
        net["yarn"] = YarnConfig(**net["yarn"])
    medusa = config.get("medusa")  # weights from before there were heads do without the key
    model = AutoregressiveWorldModel(
        medusa=None if medusa is None else read_fields(MedusaConfig, medusa, source),
        control=read_context(config.get("control"), net["context_width"], source, controls or {}),
        net=read_fields(TransformerConfig, net, source),
        objective=read_fields(NextTokenConfig, config["objective"], source),
        sampler=read_fields(SamplerConfig, config["sampler"], source),
        text=read_fields(TextConfig, config["text"], source),
        tokenizer_sha256=str(config["tokenizer_sha256"]),
    )
    load_strict(model, tensors, source)
    return model.eval()
