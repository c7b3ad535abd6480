"""Several cameras in one clip: what a network with ``num_views`` adds to the single-view one.

Views lie one after the other along time (``f = v·frames``). Self-attention is joint, cross-
attention per view, to that view's own text; channels behind the padding mask tell views apart.
Source: arXiv 2501.03575, section 6.3, and the layout of the released multi-view weights.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openwfm.nn.attention import CrossAttention, Keys, SelfAttention


class ViewChannels(nn.Module):
    """Channels that name the view: an embedding, plus a line of how often its frames repeat."""

    def __init__(self, num_views: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_views, width)
        self.repeat = nn.Linear(1, width)

    def forward(
        self, shape: tuple[int, int, int, int], frame_repeat: Float[Tensor, "#b v"] | None
    ) -> Float[Tensor, "b k f y x"]:
        """``shape`` is batch, frames of all views, rows, columns. ``frame_repeat`` is a tenth of
        the released code's value; None means that no frame repeats. Raises ValueError for one of
        another shape.
        """
        table, (b, f, y, x) = self.embedding.weight, shape
        views = len(table)
        if frame_repeat is None:
            frame_repeat = table.new_zeros(1, views)
        if (
            frame_repeat.ndim != 2
            or frame_repeat.shape[1] != views
            or len(frame_repeat) not in (1, b)
        ):
            raise ValueError(
                f"frame_repeat: shape {tuple(frame_repeat.shape)}: must be ({b}, "
                f"net.num_views={views})"
            )
        each = table + self.repeat(frame_repeat.to(table)[..., None])
        channels = each.transpose(1, 2).repeat_interleave(f // views, dim=2)
        return channels[..., None, None].expand(b, -1, f, y, x)


def fold_text(text: Tensor, num_views: int) -> Float[Tensor, "b n d"]:
    """Text with the views on the batch axis: from ``b v n d``, or ``b (v n) d`` as released.

    Raises ValueError for a shape that the number of views does not admit.
    """
    if num_views == 1 and text.ndim == 3:
        return text
    if text.ndim == 4 and text.shape[1] == num_views:
        return text.flatten(0, 1)
    if text.ndim == 3 and text.shape[1] % num_views == 0:
        return rearrange(text, "b (v n) d -> (b v) n d", v=num_views)
    rule = "(batch, tokens, width)" if num_views == 1 else f"(batch, {num_views}, tokens, width)"
    raise ValueError(
        f"text: shape {tuple(text.shape)}: must be {rule} for net.num_views={num_views}"
    )


def attend_per_view(
    attention: CrossAttention, x: Float[Tensor, "b n d"], keys: Keys, num_views: int
) -> Float[Tensor, "b n d"]:
    """Cross-attention in which the tokens of a view see the keys of that view alone."""
    if num_views == 1:
        return attention(x, keys)
    folded = rearrange(x, "b (v n) d -> (b v) n d", v=num_views)
    return rearrange(attention(folded, keys), "(b v) n d -> b (v n) d", v=num_views)


def attend_in_groups(
    attention: SelfAttention,
    x: Float[Tensor, "b n d"],
    rotary: tuple[Float[Tensor, "#b n k"], Float[Tensor, "#b n k"]],
    groups: int,
) -> Float[Tensor, "b n d"]:
    """Self-attention in which tokens see those of their own stretch of ``n`` alone."""
    if groups == 1:
        return attention(x, rotary)
    cos, sin = (fold_views(table, groups, 1) for table in rotary)
    if len(rotary[0]) == 1:  # positions restart: one view's serve all
        cos, sin = cos[:1], sin[:1]
    return unfold_views(attention(fold_views(x, groups, 1), (cos, sin)), groups, 1)


def fold_views(x: Tensor, num_views: int, dim: int = 2) -> Tensor:
    """Views from axis ``dim``, where they lie one after the other, to the batch."""
    if num_views == 1:
        return x
    return x.unflatten(dim, (num_views, -1)).movedim(dim, 1).flatten(0, 1)


def unfold_views(x: Tensor, num_views: int, dim: int = 2) -> Tensor:
    """The inverse of `fold_views`."""
    if num_views == 1:
        return x
    return x.unflatten(0, (-1, num_views)).movedim(1, dim).flatten(dim, dim + 1)


def repeat_per_view(table: Tensor, num_views: int, dim: int) -> Tensor:
    """A table of one view's tokens for the tokens of all views: positions restart at each."""
    return table if num_views == 1 else torch.cat([table] * num_views, dim=dim)
