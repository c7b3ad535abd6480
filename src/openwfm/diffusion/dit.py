"""The diffusion transformer: one network for every variant, controlled through three ports.

Follows arXiv 2501.03575, section 5.1.2 and the released network, with which it agrees to fp32
rounding (tests/interop/test_dit.py). Ports: ``channels`` are concatenated to the latents,
``modulation`` is added to the shared AdaLN modulation, ``text`` is the cross-attention context.
Variants are fillers beside it: `openwfm.diffusion.views` and `openwfm.diffusion.codes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openwfm.diffusion.codes import CodeChannels
from openwfm.diffusion.config import DiTConfig
from openwfm.diffusion.positions import Grid, PositionTables, PositionWaves
from openwfm.diffusion.views import (
    ViewChannels,
    attend_in_groups,
    attend_per_view,
    fold_text,
    repeat_per_view,
)
from openwfm.nn.attention import CrossAttention, Keys, SelfAttention, split_rows
from openwfm.nn.derived import Derives
from openwfm.nn.modulation import (
    LowRankModulation,
    NoiseLevelEmbedding,
    add_modulation,
    modulated_norm,
)
from openwfm.nn.rope import rotary_table


class Block(Derives):
    """Self-attention, cross-attention, MLP; each modulated and gated by the noise level."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.num_views, self.groups = config.num_views, config.attention_groups
        self.modulations = nn.ModuleList(
            LowRankModulation(width, config.adaln_rank, 3) for _ in range(3)
        )
        self.self_attention = SelfAttention(width, config.num_heads)
        self.cross_attention = CrossAttention(width, config.num_heads, config.text_width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
        )

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        level: tuple[Tensor, Tensor],
        rotary: tuple[Tensor, Tensor],
        keys: Keys,
    ) -> Float[Tensor, "b n d"]:
        shift, scale, gate = self.modulations[0](*level)
        normed = modulated_norm(x, shift, scale)
        x = x + gate * attend_in_groups(self.self_attention, normed, rotary, self.groups)
        shift, scale, gate = self.modulations[1](*level)
        normed = modulated_norm(x, shift, scale)
        x = x + gate * attend_per_view(self.cross_attention, normed, keys, self.num_views)
        shift, scale, gate = self.modulations[2](*level)
        return x + gate * self.mlp(modulated_norm(x, shift, scale))


class DiT(nn.Module):
    """``DiT(config)(latents, c_noise, text=…, fps=…)``: the raw network F of the preconditioner."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_blocks = False  # training: recompute each block instead of keeping it
        volume = math.prod(config.patch)
        self.patch_in = nn.Linear(config.input_channels * volume, config.width, bias=False)
        self.position: PositionTables | PositionWaves | None = None
        if config.position_embedding == "learnable":
            t, h, w = (size // p for size, p in zip(config.max_size, config.patch, strict=True))
            self.position = PositionTables((t, h, w), config.width)
        elif config.position_embedding == "sincos":
            self.position = PositionWaves(config.width)
        self.views = self.codes = None
        if config.num_views > 1:
            self.views = ViewChannels(config.num_views, config.view_channels)
        if config.codebook:
            self.codes = CodeChannels(config.codebook, config.code_channels)
        self.level = NoiseLevelEmbedding(config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.final_modulation = LowRankModulation(config.width, config.adaln_rank, 2)
        self.patch_out = nn.Linear(config.width, config.out_channels * volume, bias=False)
        initialise(self)

    def text_keys(self, text: Float[Tensor, "b *v n d"], null_tokens: int = 0) -> list[Keys]:
        """Keys and values of every block; text is fixed while sampling, so compute them once.

        Of a multi-view network, ``text`` and ``null_tokens`` are each view's own.
        """
        text = fold_text(text, self.config.num_views).to(self.patch_in.weight.dtype)
        if text.shape[-1] != self.config.text_width:
            raise ValueError(
                f"text: width {text.shape[-1]}: must be net.text_width={self.config.text_width}"
            )
        own = (block.cross_attention for block in cast(Iterable[Block], self.blocks))
        return [attention.keys(text, null_tokens) for attention in own]

    def forward(
        self,
        latents: Float[Tensor, "b z f y x"],
        c_noise: Float[Tensor, "#b"],
        *,
        text: Float[Tensor, "b *v n d"] | list[Keys],
        fps: Float[Tensor, "#b"] | float | None,
        null_tokens: int = 0,
        padding_mask: Float[Tensor, "#b 1 h w"] | None = None,
        condition_mask: Float[Tensor, "#b 1 f y x"] | None = None,
        channels: Float[Tensor, "#b k f y x"] | None = None,
        modulation: Float[Tensor, "#b m"] | None = None,
        frame_repeat: Float[Tensor, "#b v"] | None = None,
        codes: Int[Tensor, "#b f r c"] | None = None,
    ) -> Float[Tensor, "b z f y x"]:
        """Raises ValueError for shapes that the config does not admit.

        ``c_noise`` is ln(sigma)/4, one for all or one a sample; ``text`` tokens, or the result of
        :meth:`text_keys`; ``null_tokens`` more all-zero text tokens follow. ``fps`` may be None for
        a single frame. In masks 1 marks padding and given frames. ``frame_repeat`` goes to a
        multi-view network, whose views lie one after the other along ``f``; ``codes`` to one with
        ``net.codebook``.
        """
        x, grid = self.tokens(
            latents,
            padding_mask=padding_mask,
            condition_mask=condition_mask,
            channels=channels,
            codes=codes,
            frame_repeat=frame_repeat,
        )
        embedding, shared = add_modulation(self.level(c_noise.reshape(-1)), modulation)
        level = F.silu(embedding), shared
        rotary, position = self.tables(grid, fps, latents)
        keys = self.text_keys(text, null_tokens) if isinstance(text, Tensor) else text
        for block, block_keys in zip(self.blocks, keys, strict=True):
            given = (x if position is None else x + position, level, rotary, block_keys)
            if self.checkpoint_blocks and torch.is_grad_enabled():
                x = checkpoint(block, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(*given)
        shift, scale = self.final_modulation(*level)
        return self.unpatchify(self.patch_out(modulated_norm(x, shift, scale)), grid)

    def tokens(
        self,
        latents: Float[Tensor, "b z f y x"],
        *,
        padding_mask: Float[Tensor, "#b 1 h w"] | None,
        condition_mask: Float[Tensor, "#b 1 f y x"] | None,
        channels: Float[Tensor, "#b k f y x"] | None,
        codes: Int[Tensor, "#b f r c"] | None = None,
        frame_repeat: Float[Tensor, "#b v"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Grid]:
        """What enters the first block, and patches along (frames, rows, columns) of a view."""
        grid, latents = self._grid(latents), latents.to(self.patch_in.weight.dtype)
        inputs = self._inputs(latents, condition_mask, channels, codes, padding_mask, frame_repeat)
        return self._patchify(inputs), grid

    def tables(
        self, grid: Grid, fps: Tensor | float | None, latents: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Float[Tensor, "n d"] | None]:
        """Rotary cosines and signed sines, and what is added before every block (or None)."""
        rotary, position = self._rotary(grid, fps, latents), None
        if self.position is not None:
            position = repeat_per_view(self.position(grid), self.config.num_views, 0)
        return rotary, position

    def _grid(self, latents: Tensor) -> Grid:
        config = self.config
        if latents.ndim != 5 or latents.shape[1] != config.in_channels:
            raise ValueError(
                f"latents: shape {tuple(latents.shape)}: must be (batch, "
                f"net.in_channels={config.in_channels}, frames, rows, columns)"
            )
        if latents.shape[2] % config.num_views:
            raise ValueError(
                f"latents: {latents.shape[2]} frames: must divide by net.num_views="
                f"{config.num_views}; views lie one after the other"
            )
        grid = []
        sizes = (latents.shape[2] // config.num_views, *latents.shape[3:])
        rules = zip(sizes, config.patch, config.max_size, strict=True)
        for axis, (size, patch, limit) in zip(("frames", "rows", "columns"), rules, strict=True):
            if size % patch or size > limit:
                raise ValueError(
                    f"latents: {size} {axis}: must divide by {patch} (net.patch) "
                    f"and be at most {limit} (net.max_size)"
                )
            grid.append(size // patch)
        return grid[0], grid[1], grid[2]

    def _inputs(
        self,
        latents: Tensor,
        condition_mask: Tensor | None,
        channels: Tensor | None,
        codes: Tensor | None,
        padding_mask: Tensor | None,
        frame_repeat: Tensor | None,
    ) -> Tensor:
        config, (b, _, f, y, x) = self.config, latents.shape
        parts = [latents]
        if config.condition_mask != (condition_mask is not None):
            need = "needs one" if config.condition_mask else "takes none"
            raise ValueError(f"condition_mask: this network {need} (net.condition_mask)")
        if condition_mask is not None:
            parts.append(condition_mask.to(latents.dtype).expand(b, 1, f, y, x))
        given = 0 if channels is None else channels.shape[1]
        if given != config.extra_channels:
            raise ValueError(
                f"channels: {given} given: must be net.extra_channels={config.extra_channels}"
            )
        if channels is not None:
            parts.append(channels.to(latents.dtype).expand(b, -1, f, y, x))
        if (self.codes is None) != (codes is None):
            need = "takes none" if self.codes is None else "needs them"
            raise ValueError(f"codes: this network {need} (net.codebook={config.codebook})")
        if self.codes is not None and codes is not None:
            parts.append(self.codes(codes, (f, y, x)).to(latents.dtype).expand(b, -1, -1, -1, -1))
        if padding_mask is not None and not config.padding_mask:
            raise ValueError("padding_mask: this network takes none (net.padding_mask)")
        if config.padding_mask:
            mask = latents.new_zeros(1, 1, y, x) if padding_mask is None else padding_mask
            mask = F.interpolate(mask.to(latents.dtype), size=(y, x), mode="nearest")
            parts.append(mask.unsqueeze(2).expand(b, 1, f, y, x))
        if self.views is None and frame_repeat is not None:
            raise ValueError("frame_repeat: this network has one view (net.num_views=1)")
        if self.views is not None:
            parts.append(self.views((b, f, y, x), frame_repeat).to(latents.dtype))
        return torch.cat(parts, dim=1) if len(parts) > 1 else latents

    def _rotary(
        self, grid: Grid, fps: Tensor | float | None, latents: Tensor
    ) -> tuple[Tensor, Tensor]:
        device, views = latents.device, self.config.num_views
        if fps is None:
            if grid[0] > 1:
                raise ValueError("fps: missing; only a single frame has none")
            rate = None
        else:
            rate = torch.as_tensor(fps, dtype=torch.float32, device=device).reshape(-1)
            if not bool((rate > 0).all()):
                raise ValueError(f"fps={rate.tolist()}: must be positive")
            if len(rate) not in (1, len(latents)):
                raise ValueError(f"fps: {len(rate)} of them: must be 1, or {len(latents)} (batch)")
            if len(rate) > 1 and bool((rate == rate[0]).all()):
                rate = rate[:1]
        cos, sin = rotary_table(
            grid,
            self.config.head_dim,
            ratios=self.config.rope_scale,
            fps=rate,
            base_fps=self.config.base_fps,
            device=device,
            dtype=getattr(torch, self.config.rope_dtype),
        )
        return repeat_per_view(cos, views, 1), repeat_per_view(sin, views, 1)

    def _patchify(self, x: Tensor) -> Float[Tensor, "b n d"]:
        """Inside a patch channels are slowest, then frame, row, column."""
        t, h, w = self.config.patch
        pattern = "b c (f t) (y h) (x w) -> b (f y x) (c t h w)"
        return self.patch_in(rearrange(x, pattern, t=t, h=h, w=w))

    def unpatchify(self, x: Tensor, grid: Grid) -> Float[Tensor, "b z f y x"]:
        """Outputs lie as (row, column, frame, channel): not the order of the input."""
        (t, h, w), (f, y, _) = self.config.patch, grid
        pattern = "b (f y x) (h w t z) -> b z (f t) (y h) (x w)"
        return rearrange(x, pattern, f=f * self.config.num_views, y=y, t=t, h=h, w=w)


@torch.no_grad()
def initialise(net: DiT) -> None:
    """As released: Xavier for matrices (each of a stacked one on its own), 0.02 for the noise-level
    MLP and position tables, zero for the last layer of every block's modulation, so that gates
    start from the shared modulation alone, and zero for the codes. ``zero_init_output`` (ours)
    starts F at zero.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            parts = {"qkv": 3, "kv": 2}.get(name.rsplit(".", 1)[-1], 1)
            for weight in split_rows(module.weight, parts):
                nn.init.xavier_uniform_(weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for linear in (net.level.linear_1, net.level.linear_2):
        nn.init.normal_(linear.weight, std=0.02)
    for block in cast(Iterable[Block], net.blocks):
        for modulation in cast(Iterable[LowRankModulation], block.modulations):
            nn.init.zeros_(modulation.up.weight)
    if net.codes is not None:
        nn.init.zeros_(net.codes.embedding.weight)
    if net.position is not None:
        for table in net.position.parameters():
            nn.init.trunc_normal_(table, std=0.02, a=-2, b=2)
    if net.config.zero_init_output:
        nn.init.zeros_(net.patch_out.weight)
