"""A DiT prepared for a sampling run: the same function of the same weights, with less work.

What the steps of a run share is computed once: keys and values of the text, the modulations of all
noise levels (one batch), rotary and position tables. Guidance costs less than two calls: branches
are one batch, the first self-attention, which sees no text, is shared, and a branch without text
has no cross-attention (a zero token has key and value 0, so its output is exactly 0).

Weights are read, never changed; outputs differ from those of ``DiT`` by fp32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.diffusion.caching import StepCache
from openwfm.diffusion.dit import Block, DiT, Grid
from openwfm.diffusion.fused import BlockWeights, Modulations, Rotary, rows, run_block
from openwfm.diffusion.precondition import c_noise
from openwfm.nn.attention import BranchKeys, Keys
from openwfm.nn.modulation import LowRankModulation, add_modulation, modulated_norm

FOLDED_BYTES = 2**28  # rotary tables of all blocks are kept up to this size, else folded anew
PACKED_BYTES = 2**30  # weights are copied into oneDNN's layout up to this size


class Runtime:
    """Call it like the DiT, with ``text`` from :meth:`text_keys` and one noise level for all.

    With ``guidance`` g the result is conditional + g·(conditional - unconditional), which is the
    same in F-space as for x0: both share x and sigma. Outside ``interval`` (lowest and highest
    sigma, both included) one branch runs, without guidance.
    """

    def __init__(
        self,
        net: DiT,
        *,
        sigmas: Sequence[float] = (),
        guidance: float = 0.0,
        interval: tuple[float, float] | None = None,
        cache: StepCache | None = None,
        compile_blocks: bool = False,
    ) -> None:
        self.net, self.config, self.cache = net, net.config, cache
        self.guidance, self._ends = guidance, None
        if interval is not None:
            self._ends = tuple(_level(sigma) for sigma in interval)
        self._blocks = list(cast(Iterable[Block], net.blocks))
        packed = _packs(net) and not compile_blocks
        self._weights = [BlockWeights.of(block, packed=packed) for block in self._blocks]
        self._run: Callable[..., Tensor] = run_block
        if compile_blocks:
            self._run = torch.compile(run_block, dynamic=False)
        self._tables: tuple[object, list[Rotary] | tuple[Tensor, Tensor], Tensor | None] | None
        self._tables = None
        self._levels = self._all_levels(sigmas)

    @torch.no_grad()
    def text_keys(
        self,
        text: Float[Tensor, "b n d"],
        null_tokens: int,
        *,
        negative: tuple[Float[Tensor, "#b m d"] | None, int] = (None, 0),
    ) -> list[BranchKeys]:
        """For every block the keys of both branches, of texts that are followed by their number of
        zero tokens; ``negative`` is the unconditional branch's (None: it has no text)."""
        conditional = self._branch(text, null_tokens)
        other: list[Keys | None] = [None] * len(self._blocks)
        if negative[0] is not None:
            other = self._branch(negative[0].expand(len(text), *negative[0].shape[1:]), negative[1])
        return list(zip(conditional, other, strict=True))

    def _branch(self, text: Tensor, null_tokens: int) -> list[Keys | None]:
        if not bool((text != 0).any()):
            return [None] * len(self._blocks)
        found: list[Keys | None] = []
        keys = self.net.text_keys(text, null_tokens)
        for block, (k, v, bias) in zip(self._blocks, keys, strict=True):
            found.append((k * block.cross_attention.q_norm.weight, v, bias))
        return found

    @torch.no_grad()
    def __call__(
        self,
        latents: Float[Tensor, "b z f y x"],
        level: Float[Tensor, 1],
        *,
        text: list[BranchKeys],
        fps: Float[Tensor, "#b"] | float | None,
        null_tokens: int = 0,
        padding_mask: Float[Tensor, "#b 1 h w"] | None = None,
        condition_mask: Float[Tensor, "#b 1 f y x"] | None = None,
        channels: Float[Tensor, "#b k f y x"] | None = None,
        modulation: Float[Tensor, "#b m"] | None = None,
        codes: Int[Tensor, "#b f r c"] | None = None,
        frame_repeat: Float[Tensor, "#b v"] | None = None,
    ) -> Float[Tensor, "b z f y x"]:
        """``c_noise`` is ``level``; ``null_tokens`` are in the keys already. Raises ValueError for
        shapes that the config does not admit, as the DiT does."""
        c_level, batch = float(level), len(latents)
        branches = 2 if self._guides(c_level) else 1
        x, grid = self.net.tokens(
            latents,
            padding_mask=padding_mask,
            condition_mask=condition_mask,
            channels=channels,
            codes=codes,
            frame_repeat=frame_repeat,
        )
        *blocks, (final,) = self._modulations(c_level, modulation, branches)
        rotary, position = self._positions(grid, fps, latents)
        x = self._through(x, blocks, rotary, position, text, c_level, branches)
        out = self.net.patch_out(modulated_norm(x, *final))
        out = self.net.unpatchify(out, grid).float()
        return torch.lerp(out[batch:], out[:batch], 1 + self.guidance) if branches == 2 else out

    def _guides(self, level: float) -> bool:
        if not self.guidance:
            return False
        return self._ends is None or self._ends[0] <= level <= self._ends[1]

    def _through(
        self,
        x: Tensor,
        modulations: list[Modulations],
        rotary: Callable[[int], Rotary],
        position: Tensor | None,
        text: list[BranchKeys],
        level: float,
        branches: int,
    ) -> Tensor:
        """All blocks, or what the cache predicts of them."""
        entered = x
        if self.cache is not None:
            shift, scale, _ = (rows(part, 0, len(x)) for part in modulations[0][0])
            signal = modulated_norm(x if position is None else x + position, shift, scale)
            change = self.cache.predict(signal, level, branches)
            if change is not None:
                return (entered + change).flatten(0, 1)
            x = x.clone()
        heads = self.config.num_heads
        for index, weights in enumerate(self._weights):
            repeat = branches if index == 0 else 1
            keys = text[index][:branches]
            parts = (heads, repeat, self.config.attention_groups)
            given = (modulations[index], rotary(index), keys, position, *parts)
            x = self._run(x, weights, *given)
        if self.cache is not None:
            self.cache.store(x.unflatten(0, (branches, -1)) - entered, level)
        return x

    @torch.no_grad()
    def _all_levels(self, sigmas: Sequence[float]) -> dict[float, list[Modulations]]:
        if not sigmas:
            return {}
        device = self.net.patch_in.weight.device
        levels = [_level(sigma) for sigma in sigmas]
        found = self._compute(torch.tensor(levels, device=device), None)
        return {
            level: [
                tuple(tuple(part[i : i + 1] for part in parts) for parts in block)
                for block in found
            ]
            for i, level in enumerate(levels)
        }

    def _modulations(self, level: float, port: Tensor | None, branches: int) -> list[Modulations]:
        one = torch.full((1,), level, device=self.net.patch_in.weight.device)
        if port is not None:
            return self._compute(one, port.repeat(branches, 1) if len(port) > 1 else port)
        if level not in self._levels:
            self._levels[level] = self._compute(one, None)
        return self._levels[level]

    def _compute(self, levels: Tensor, port: Tensor | None) -> list[Modulations]:
        """Of every block, then of the final layer."""
        embedding, shared = add_modulation(self.net.level(levels), port)
        activated = F.silu(embedding)
        if len(activated) != len(shared):
            activated = activated.expand(len(shared), -1)
        found: list[Modulations] = []
        for block in self._blocks:
            each = cast(Iterable[LowRankModulation], block.modulations)
            found.append(tuple(one(activated, shared) for one in each))
        return [*found, (self.net.final_modulation(activated, shared),)]

    def _positions(
        self, grid: Grid, fps: Tensor | float | None, latents: Tensor
    ) -> tuple[Callable[[int], Rotary], Tensor | None]:
        """Folded rotary tables by block, and the position table; the last grid's are kept."""
        rate = None if fps is None else torch.as_tensor(fps).reshape(-1).tolist()
        key = (grid, rate)
        if self._tables is None or self._tables[0] != key:
            self._tables = key, *self._fold(grid, fps, latents)
        _, rotary, position = self._tables
        if isinstance(rotary, list):
            return rotary.__getitem__, position
        cos, sin = rotary
        return lambda index: Rotary.of(self._blocks[index], cos, sin), position

    def _fold(self, grid: Grid, fps: Any, latents: Tensor) -> tuple[Any, Tensor | None]:
        (cos, sin), position = self.net.tables(grid, fps, latents)
        if len(cos) > 1:  # a rate for each sample: of both branches
            cos, sin = (torch.cat((part, part)) for part in (cos, sin))
        if 16 * cos.numel() * len(self._blocks) > FOLDED_BYTES:
            return (cos, sin), position
        return [Rotary.of(block, cos, sin) for block in self._blocks], position


def _level(sigma: float) -> float:
    """c_noise, computed as for a call, of one level: the same bits."""
    return float(c_noise(torch.full((1,), sigma)))


def _packs(net: DiT) -> bool:
    """Packed weights are a copy; it is kept with the blocks until they train or change."""
    weight = net.patch_in.weight
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and sum(parameter.nbytes for parameter in net.parameters()) <= PACKED_BYTES
    )
