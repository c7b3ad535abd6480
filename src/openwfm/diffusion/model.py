"""A diffusion world model: network, latent statistics, objective and conditioner in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from openwfm.diffusion.caching import StepCache
from openwfm.diffusion.conditioner import Condition, Conditioner, Draws
from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.control import Control, Controls, Ports
from openwfm.diffusion.dit import DiT
from openwfm.diffusion.noise import training_sigma
from openwfm.diffusion.objective import edm_loss, padding_of_latents, uncertainty_network
from openwfm.diffusion.precondition import c_noise, denoise
from openwfm.diffusion.runtime import Runtime
from openwfm.diffusion.sampler import guided, sample, solver_sigmas
from openwfm.randomness import torch_generator


@dataclass(frozen=True)
class StepDraws:
    """All random numbers of one training step."""

    sigma: Float[Tensor, " b"]
    noise: Float[Tensor, "b z f y x"]
    condition: Draws
    keep_control: Bool[Tensor, " b"]

    @classmethod
    def stack(cls, parts: Sequence[StepDraws]) -> StepDraws:
        return cls(
            torch.cat([part.sigma for part in parts]),
            torch.cat([part.noise for part in parts]),
            Draws.stack([part.condition for part in parts]),
            torch.cat([part.keep_control for part in parts]),
        )


class DiffusionWorldModel(nn.Module):
    """Raw tokenizer latents in, raw tokenizer latents out; no Lightning.

    ``latent_mean`` and ``latent_std`` (z, frames) are measured on training data; NaN until then.
    Frames beyond their last column use the last column, so two columns mean first and later.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        *,
        net: DiTConfig,
        objective: EdmConfig,
        conditioner: ConditionerConfig,
        sampler: SamplerConfig,
        control: Control | None = None,
    ) -> None:
        super().__init__()
        if conditioner.text_width != net.text_width:
            raise ValueError(
                f"conditioner.text_width={conditioner.text_width}: must equal "
                f"net.text_width={net.text_width}"
            )
        if conditioner.max_frames and not net.condition_mask:
            raise ValueError(
                f"conditioner.max_frames={conditioner.max_frames}: must be 0 for a network "
                "without net.condition_mask"
            )
        expected = net.in_channels if conditioner.repeat_last else 0
        expected += 0 if control is None else control.channels
        if net.extra_channels != expected:
            raise ValueError(
                f"net.extra_channels={net.extra_channels}: must be {expected} with "
                f"conditioner.repeat_last={conditioner.repeat_last}"
                + (f" and {control.channels} channels of control" if control is not None else "")
            )
        self.net = DiT(net)
        self.logvar = uncertainty_network() if objective.learned_uncertainty else None
        self.objective, self.sampler = objective, sampler
        self.conditioner = Conditioner(conditioner, net.num_views)
        self.control = control
        self.register_buffer("latent_mean", torch.full((net.in_channels, 1), torch.nan))
        self.register_buffer("latent_std", torch.full((net.in_channels, 1), torch.nan))

    def set_latent_statistics(self, mean: Float[Tensor, "z f"], std: Float[Tensor, "z f"]) -> None:
        """Raises ValueError when they are not finite, not positive, or of another channel count."""
        channels = self.net.config.in_channels
        if mean.ndim != 2 or mean.shape != std.shape or len(mean) != channels:
            raise ValueError(
                f"latent statistics: shapes {tuple(mean.shape)} and {tuple(std.shape)}: "
                f"must be ({channels}, frames) both"
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()):
            raise ValueError("latent statistics: must be finite, and std positive")
        device = self.latent_mean.device
        self.latent_mean = mean.detach().to(device, torch.float32).clone()
        self.latent_std = std.detach().to(device, torch.float32).clone()

    def check_statistics(self) -> None:
        if not bool(torch.isfinite(self.latent_std).all()):
            raise ValueError(
                "latent statistics: not measured; call set_latent_statistics(mean, std) with "
                "statistics of the training latents, or start from published weights"
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """The number of columns of the statistics is data, so take the checkpoint's."""
        for name in ("latent_mean", "latent_std"):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape[:1] == getattr(self, name).shape[:1]:
                setattr(self, name, torch.empty_like(saved, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _statistics(self, frames: int, start: int) -> tuple[Tensor, Tensor]:
        views = self.net.config.num_views
        column = torch.arange(start, start + frames // views, device=self.latent_mean.device)
        column = column.repeat(views)
        column = column.clamp(max=self.latent_mean.shape[1] - 1)
        mean, std = self.latent_mean[:, column], self.latent_std[:, column]
        return mean[None, :, :, None, None], std[None, :, :, None, None]

    def normalise(
        self, latents: Float[Tensor, "b z f y x"], start: int = 0
    ) -> Float[Tensor, "b z f y x"]:
        """To mean 0 and standard deviation sigma_data, per channel and latent frame.

        ``start`` is the place of the first frame among the columns of the statistics.
        """
        mean, std = self._statistics(latents.shape[2], start)
        return (latents.float() - mean) / std * self.objective.sigma_data

    def denormalise(
        self, latents: Float[Tensor, "b z f y x"], start: int = 0
    ) -> Float[Tensor, "b z f y x"]:
        mean, std = self._statistics(latents.shape[2], start)
        return latents / self.objective.sigma_data * std + mean

    def draw(self, shape: torch.Size, generator: torch.Generator) -> StepDraws:
        """Noise levels, noise and conditioning of a step, for latents of ``shape``; on the CPU."""
        frames = shape[2] // self.net.config.num_views
        sigma = training_sigma(self.objective, torch.Size((*shape[:2], frames)), generator)
        noise = torch.randn(shape, generator=generator)
        condition = Draws.of(self.conditioner.config, shape, generator)
        dropout = 0.0 if self.control is None else self.control.config.dropout
        keep = torch.rand(shape[0], generator=generator) >= dropout
        return StepDraws(sigma, noise, condition, keep)

    def loss(
        self,
        latents: Float[Tensor, "b z f y x"],
        draws: StepDraws,
        *,
        text: Float[Tensor, "b n d"] | None,
        fps: Float[Tensor, " b"],
        padding_mask: Float[Tensor, "b 1 h w"] | None = None,
        controls: Controls | None = None,
        codes: Int[Tensor, "b f r c"] | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """(loss, weighted squared error) of raw ``latents``, of what is generated and no padding.

        Latents of one frame are of images: they have no given frames, and ``fps`` says nothing.
        """
        clean = self.normalise(latents)
        sigma, noise = draws.sigma.to(clean.device), draws.noise.to(clean.device)
        condition = self.conditioner.training(
            clean, draws.condition, text=text, fps=fps, padding_mask=padding_mask, codes=codes
        )
        ports = self.ports(controls, clean.shape)
        condition = replace(condition, ports=ports.kept(draws.keep_control))
        noisy = clean + sigma.view(-1, 1, 1, 1, 1) * noise
        sigma_data = self.objective.sigma_data
        estimate = denoise(self.net, noisy, sigma, condition, sigma_data)
        uncertainty = None if self.logvar is None else self.logvar(c_noise(sigma)).squeeze(-1)
        given = None if condition.given is None else condition.given.frames
        padding = None
        if padding_mask is not None:
            padding = padding_of_latents(padding_mask, (clean.shape[3], clean.shape[4]))
        loss, edm = edm_loss(estimate, clean, sigma, sigma_data, uncertainty, given, padding)
        return loss * self.objective.loss_scale, edm

    def ports(self, controls: Controls | None, shape: torch.Size) -> Ports:
        """For latents of ``shape``. Raises ValueError for controls that are missing."""
        if self.control is None:
            return Ports()
        if controls is None:
            raise ValueError(f"controls: missing: this world needs control={self.control.kind}")
        ports: Ports = self.control(controls, (shape[2], shape[3], shape[4]))
        return ports.kept(torch.zeros(shape[0], dtype=torch.bool)) if controls.dropped else ports

    @torch.no_grad()
    def generate_latents(
        self,
        *,
        condition: Float[Tensor, "b z k y x"] | None,
        num_latent_frames: int,
        text: Float[Tensor, "b n d"] | None,
        fps: Float[Tensor, " b"],
        seed: int,
        size: tuple[int, int] | None = None,
        sampler: SamplerConfig | None = None,
        negative_text: Float[Tensor, "#b m d"] | None = None,
        start: int = 0,
        controls: Controls | None = None,
        progress: bool = False,
    ) -> Float[Tensor, "b z f y x"]:
        """Raw latents whose first frames are ``condition`` (raw), up to fp32 rounding. With views,
        both hold them one after the other along time; ``num_latent_frames`` are of each.

        ``fps`` sets the batch size; ``size`` is latent rows and columns, needed without
        ``condition``; ``start`` is that of `normalise`. Sample i depends on (seed, i) alone, not on
        its batch. Raises ValueError for missing statistics, sizes that do not fit, or guidance of a
        model trained without dropout.
        """
        self.check_statistics()
        sampler = sampler or self.sampler
        if condition is None and size is None:
            raise ValueError("size: missing; without condition frames give latent (rows, columns)")
        channels = self.net.config.in_channels
        rows, columns = condition.shape[-2:] if condition is not None else size or (0, 0)
        frames = num_latent_frames * self.net.config.num_views
        shape = (channels, frames, int(rows), int(columns))
        noise, augment = (
            self.noise(seed, purpose, len(fps), shape)
            for purpose in ("sample/initial", "sample/condition")
        )
        if condition is not None and (condition.ndim != 5 or condition.shape[1] != channels):
            raise ValueError(
                f"condition: shape {tuple(condition.shape)}: must be (batch, {channels}, frames, "
                "rows, columns)"
            )
        views = self.net.config.num_views
        if condition is not None and condition.shape[2] % views:
            raise ValueError(
                f"condition: {condition.shape[2]} frames: must be those of {views} views"
            )
        given = None if condition is None else self.normalise(condition, start)
        filled = self.conditioner.sampling(
            given, augment, sampler.condition_sigma, text=text, fps=fps.to(noise.device)
        )
        filled = replace(filled, ports=self.ports(controls, torch.Size((len(fps), *shape))))
        latents = self.walk(noise, filled, sampler, negative_text, progress=progress, text=text)
        if filled.given is not None:  # some grids end above zero noise
            latents = torch.where(filled.given.frames, filled.given.clean, latents)
        return self.denormalise(latents, start)

    def walk(
        self,
        noise: Float[Tensor, "b z f y x"],
        filled: Condition,
        sampler: SamplerConfig,
        negative_text: Float[Tensor, "#b m d"] | None = None,
        *,
        text: Float[Tensor, "b n d"] | None,
        progress: bool = False,
    ) -> Float[Tensor, "b z f y x"]:
        """From unit ``noise`` to a normalised sample. Guidance needs a prompt or tokens, and a
        model that was trained without them at times."""
        config, guidance = self.conditioner.config, sampler.guidance
        prompted = not (text is None and negative_text is None)
        if not (prompted or filled.codes is not None):
            guidance = 0.0
        what = "text_dropout" if filled.codes is None else "codes_dropout"
        if guidance and getattr(config, what) == 0 and negative_text is None:
            raise ValueError(
                f"sampler.guidance={guidance}: must be 0 for a model trained with "
                f"conditioner.{what}=0, unless a negative prompt is given"
            )
        self._check_control_guidance(sampler)
        assert isinstance(filled.text, Tensor)
        negative = None if negative_text is None else self.conditioner.text(negative_text)
        if filled.codes is not None:  # branches differ before the first block
            return self._walk_codes(noise, filled, sampler, guidance, negative, progress)
        network = Runtime(
            self.net,
            sigmas=solver_sigmas(sampler),
            guidance=guidance,
            interval=sampler.guidance_interval,
            cache=StepCache(sampler.cache) if sampler.cache else None,
            compile_blocks=sampler.compile,
        )
        keys = network.text_keys(filled.text, filled.null_tokens, negative=negative or (None, 0))
        prepared = replace(filled, text=keys)

        def run(x: Tensor, sigma: Tensor) -> Tensor:
            made = denoise(network, x, sigma, prepared, self.objective.sigma_data)
            if not sampler.control_guidance:
                return made
            free = denoise(network, x, sigma, uncontrolled, self.objective.sigma_data)
            return torch.lerp(free, made, 1 + sampler.control_guidance)

        uncontrolled = prepared
        if sampler.control_guidance:
            keep = torch.zeros(len(noise), dtype=torch.bool)
            uncontrolled = replace(prepared, ports=prepared.ports.kept(keep))
        return sample(run, noise, sampler, progress=progress)

    def _check_control_guidance(self, sampler: SamplerConfig) -> None:
        if not sampler.control_guidance:
            return
        if self.control is None or not self.control.config.dropout:
            raise ValueError(
                f"sampler.control_guidance={sampler.control_guidance}: must be 0 for a model "
                "without a control, or whose control was trained with control.dropout=0"
            )

    def _walk_codes(
        self,
        noise: Tensor,
        filled: Condition,
        sampler: SamplerConfig,
        guidance: float,
        negative: tuple[Tensor, int] | None,
        progress: bool,
    ) -> Tensor:
        if guidance:
            filled = filled.with_unconditional(None if negative is None else negative[0])
        assert isinstance(filled.text, Tensor)
        prepared = replace(filled, text=self.net.text_keys(filled.text, filled.null_tokens))

        def run(x: Tensor, sigma: Tensor) -> Tensor:
            return denoise(self.net, x, sigma, prepared, self.objective.sigma_data)

        walk = guided(run, guidance) if guidance else run
        return sample(walk, noise, sampler, progress=progress)

    def noise(self, seed: int, purpose: str, count: int, shape: tuple[int, ...]) -> Tensor:
        """Unit noise; sample i is that of (seed, i) whatever the batch."""
        generators = [torch_generator(seed, purpose, index) for index in range(count)]
        noise = torch.stack([torch.randn(shape, generator=each) for each in generators])
        return noise.to(self.latent_mean.device)

    def export_config(self) -> dict[str, Any]:
        return {
            "kind": "decoder" if self.net.config.codebook else "world",
            "family": "diffusion",
            "net": asdict(self.net.config),
            "objective": asdict(self.objective),
            "conditioner": asdict(self.conditioner.config),
            "sampler": asdict(self.sampler),
            **({} if self.control is None else {"control": self.control.export_config()}),
        }
