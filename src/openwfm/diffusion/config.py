"""What a diffusion world model is made of, as checked values (arXiv 2501.03575, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openwfm.nn.rope import axis_dims


def added(default: Any) -> Any:
    """A field that older published weights lack; its default is what they were."""
    return field(default=default, metadata={"added": True})


def _positive(prefix: str, values: dict[str, float | int]) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{prefix}.{name}={value}: must be positive")


def _rate(prefix: str, values: dict[str, float | int]) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{prefix}.{name}={value}: must be in [0, 1)")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}={value}: must be one of {', '.join(allowed)}")


POSITIONS = ("learnable", "sincos", "none")


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The network. Input channels are [latent | condition mask | extra | codes | padding mask |
    view].

    ``rope_scale`` are the NTK ratios of time, rows and columns; ``max_size`` bounds latent frames
    (of a view), rows and columns (before patchify) and sizes the learnable position tables.
    ``rope_dtype`` bfloat16 repeats the rounding of the released code (`openwfm.nn.rope`).
    ``num_views`` above 1 makes a multi-view network (`openwfm.diffusion.views`); with
    ``joint_views`` false each view attends to itself alone (a control of ours: six worlds in one).
    ``codebook`` above 0 makes one that is conditioned on tokens (`openwfm.diffusion.codes`).
    """

    in_channels: int = 16
    out_channels: int = 16
    condition_mask: bool = True
    extra_channels: int = 0
    padding_mask: bool = True
    width: int = 4096
    num_blocks: int = 28
    num_heads: int = 32
    mlp_ratio: float = 4.0
    text_width: int = 1024
    adaln_rank: int = 256
    patch: tuple[int, int, int] = (1, 2, 2)
    rope_scale: tuple[float, float, float] = (2.0, 1.0, 1.0)
    max_size: tuple[int, int, int] = (128, 240, 240)
    base_fps: float = 24.0
    position_embedding: str = "learnable"
    zero_init_output: bool = False
    rope_dtype: str = added("float32")
    num_views: int = added(1)
    view_channels: int = added(0)
    joint_views: bool = added(True)
    codebook: int = added(0)
    code_channels: int = added(0)

    def __post_init__(self) -> None:
        for name in ("patch", "rope_scale", "max_size"):
            value = tuple(getattr(self, name))
            if len(value) != 3 or min(value) <= 0:
                raise ValueError(f"net.{name}={value}: must be three positive numbers (t, h, w)")
            object.__setattr__(self, name, value)
        names = ["in_channels", "out_channels", "width", "num_blocks", "num_heads", "mlp_ratio"]
        names += ["text_width", "adaln_rank", "base_fps", "num_views"]
        _positive("net", {name: getattr(self, name) for name in names})
        if self.extra_channels < 0:
            raise ValueError(f"net.extra_channels={self.extra_channels}: must not be negative")
        if self.width % self.num_heads:
            raise ValueError(
                f"net.width={self.width}: must divide by net.num_heads={self.num_heads}"
            )
        axis_dims(self.head_dim)
        for size, patch in zip(self.max_size, self.patch, strict=True):
            if size % patch:
                raise ValueError(f"net.max_size={self.max_size}: must divide by patch={self.patch}")
        _one_of("net.position_embedding", self.position_embedding, POSITIONS)
        _one_of("net.rope_dtype", self.rope_dtype, ("float32", "bfloat16"))
        for name, wanted, why in (
            ("view_channels", self.num_views > 1, f"net.num_views={self.num_views}"),
            ("code_channels", self.codebook > 0, f"net.codebook={self.codebook}"),
        ):
            if (value := getattr(self, name)) < 0 or (value > 0) != wanted:
                rule = "must be positive" if wanted else "must be 0"
                raise ValueError(f"net.{name}={value}: {rule} with {why}")
        if not self.joint_views and self.num_views == 1:
            raise ValueError("net.joint_views=False: needs net.num_views above 1")

    @property
    def attention_groups(self) -> int:
        """Into how many parts self-attention falls: the views, where they are not joint."""
        return 1 if self.joint_views else self.num_views

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads

    @property
    def input_channels(self) -> int:
        """Channels that reach the patch embedding, ports included."""
        masks = int(self.condition_mask) + int(self.padding_mask)
        return (
            self.in_channels + self.extra_channels + self.code_channels + self.view_channels + masks
        )


@dataclass(frozen=True, kw_only=True)
class EdmConfig:
    """Noise distribution and loss (section 5.1.1): ln(sigma) ~ Normal(p_mean, p_std²), unclamped.

    ``image_p_mean`` and ``image_p_std`` are those of batches of single frames, None: the same.
    ``scale_by_frames`` multiplies sigma by the square root of the number of latent frames.
    """

    sigma_data: float = 0.5
    p_mean: float = 0.0
    p_std: float = 1.0
    image_p_mean: float | None = added(None)
    image_p_std: float | None = added(None)
    learned_uncertainty: bool = True
    scale_by_frames: bool = False
    loss_scale: float = 1.0

    def __post_init__(self) -> None:
        names = ("sigma_data", "p_std", "image_p_std", "loss_scale")
        given = {name: getattr(self, name) for name in names}
        _positive("objective", {n: value for n, value in given.items() if value is not None})

    def log_normal(self, num_latent_frames: int) -> tuple[float, float]:
        """Mean and standard deviation of ln(sigma) for batches of so many latent frames."""
        mean, std = self.p_mean, self.p_std
        if num_latent_frames == 1:
            mean = mean if self.image_p_mean is None else self.image_p_mean
            std = std if self.image_p_std is None else self.image_p_std
        return mean, std


@dataclass(frozen=True, kw_only=True)
class ConditionerConfig:
    """How a batch becomes a condition: text, given leading latent frames, and their dropout.

    The number of given frames is uniform in {min_frames .. max_frames} for each sample on its own;
    given frames are noised by exp(Normal(augment_p_mean, augment_p_std²)). ``repeat_last`` (ours)
    also shows the last given frame to every frame after it, through the ``channels`` port: a small
    network then need not learn to copy what stands still. ``codes_dropout`` replaces all tokens of
    a sample by token 0, as released. ``text_encoder`` none: there are no prompts.
    """

    text_encoder: str = "minilm-l6-v2"
    text_width: int = 384
    text_tokens: int = 32
    text_dropout: float = 0.2
    min_frames: int = 0
    max_frames: int = 0
    frames_dropout: float = 0.0
    augment_p_mean: float = -3.0
    augment_p_std: float = 2.0
    repeat_last: bool = False
    codes_dropout: float = added(0.0)

    def __post_init__(self) -> None:
        names = ("text_width", "text_tokens", "augment_p_std")
        _positive("conditioner", {name: getattr(self, name) for name in names})
        rates = ("text_dropout", "frames_dropout", "codes_dropout")
        _rate("conditioner", {name: getattr(self, name) for name in rates})
        if not 0 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"conditioner.min_frames={self.min_frames}: must be between 0 and "
                f"max_frames={self.max_frames}"
            )
        if self.repeat_last and not self.max_frames:
            raise ValueError("conditioner.repeat_last=True: needs conditioner.max_frames above 0")


SOLVERS = ("euler", "heun", "res_2ab", "diffusers")
GRIDS = ("release", "to_zero", "repeat_last", "extra_point")
SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Solver, sigma grid and guidance: out = cond + guidance·(cond - uncond); 0 is off.

    ``grid`` says where the levels end (`openwfm.diffusion.sampler.solver_steps`); ``release`` is
    what the release with that solver does. ``guidance_interval`` are the lowest and the highest
    sigma at which guidance acts (null: all). ``control_guidance`` is the same for the control:
    out + control_guidance·(out - out without control). ``condition_sigma`` is the noise put on
    given frames.
    ``scheduler`` is a class of diffusers, for ``kind=diffusers``. ``cache`` above 0 predicts steps
    instead of computing them (`openwfm.diffusion.caching`), which changes the result; ``compile``
    compiles the blocks, which does not.
    """

    kind: str = "euler"
    num_steps: int = 35
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    grid: str = added("release")
    guidance: float = 7.0
    guidance_interval: tuple[float, float] | None = added(None)
    control_guidance: float = added(0.0)
    condition_sigma: float = 0.001
    scheduler: str | None = added(None)
    cache: float = added(0.0)
    compile: bool = added(False)

    def __post_init__(self) -> None:
        _one_of("sampler.kind", self.kind, SOLVERS)
        _one_of("sampler.grid", self.grid, GRIDS)
        names = ("num_steps", "sigma_min", "sigma_max", "rho", "condition_sigma")
        _positive("sampler", {name: getattr(self, name) for name in names})
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sampler.sigma_min={self.sigma_min}: must be below sigma_max={self.sigma_max}"
            )
        for name in ("guidance", "control_guidance", "cache"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"sampler.{name}={getattr(self, name)}: must not be negative (0 is off)"
                )
        self._check_interval()
        self._check_scheduler()

    def _check_interval(self) -> None:
        if self.guidance_interval is None:
            return
        interval = tuple(self.guidance_interval)
        if len(interval) != 2 or not 0 <= interval[0] < interval[1]:
            raise ValueError(
                f"sampler.guidance_interval={interval}: must be (lowest, highest) sigma"
            )
        object.__setattr__(self, "guidance_interval", interval)

    def _check_scheduler(self) -> None:
        if self.kind != "diffusers":
            if self.scheduler is not None:
                raise ValueError(
                    f"sampler.scheduler={self.scheduler}: needs sampler.kind=diffusers"
                )
            return
        _one_of("sampler.scheduler", str(self.scheduler), SCHEDULERS)
        if self.grid != "release":
            raise ValueError(f"sampler.grid={self.grid}: the scheduler has its own; use release")
