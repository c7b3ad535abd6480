"""Start from published weights: of the same network, or of the stage of training before it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from openwfm.autoregressive.config import TransformerConfig
from openwfm.autoregressive.model import AutoregressiveWorldModel, load_autoregressive_model
from openwfm.weights import load_strict


def start_from(model: AutoregressiveWorldModel, folder: str, *, grow: bool = False) -> None:
    """Copy the weights of ``folder`` into ``model``; Medusa heads that it lacks stay as they are.

    The stages of arXiv 2501.03575, section 5.2.3, change the network: longer clips with YaRN, then
    text. ``grow`` allows what they change (see `grown`): layers and embeddings that are new keep
    their initial values. Raises ValueError for another network or another tokenizer, and for
    Medusa heads that ``model`` has no place for.
    """
    published = load_autoregressive_model(folder)
    if published.tokenizer_sha256 != model.tokenizer_sha256:
        raise ValueError(
            f"weights={folder}: trained on the tokens of {published.tokenizer_sha256[:12]}, "
            f"not of this tokenizer, {model.tokenizer_sha256[:12]}"
        )
    fits = published.config == (grown(published.config, model.config) if grow else model.config)
    if not fits:
        hint = "" if grow else "; a later stage of training sets grow"
        raise ValueError(
            f"weights={folder}: its network {published.config} differs from {model.config}{hint}"
        )
    tensors, own = published.state_dict(), model.state_dict()
    for name, value in own.items():
        if name not in tensors and (name.startswith("medusa.") or (grow and _is_new(name))):
            tensors[name] = value
    if grow:
        tensors["net.embed.weight"] = _longer(tensors["net.embed.weight"], own["net.embed.weight"])
    load_strict(model, tensors, folder)


def grown(before: TransformerConfig, after: TransformerConfig) -> TransformerConfig:
    """``after``, with what a stage may change as in ``before``: YaRN, more frames, and, where
    there were none, text, positions and special tokens."""
    text = before.context_width is None
    return replace(
        after,
        yarn=None if before.yarn is None else after.yarn,
        grid=(min(before.grid[0], after.grid[0]), *after.grid[1:]),
        context_width=None if text else after.context_width,
        absolute_position=after.absolute_position and before.absolute_position,
        bov=after.bov and before.bov,
        embeddings=before.embeddings
        if before.num_embeddings <= after.num_embeddings
        else after.embeddings,
    )


def _is_new(name: str) -> bool:
    return ".cross_attention." in name or ".cross_norm." in name


def _longer(old: Tensor, new: Tensor) -> Tensor:
    """The rows of ``old``, and those of ``new`` beyond them."""
    joined = new.clone()
    joined[: len(old)] = old
    return joined
