"""Start from published weights: of the same network, or of the stage of training before it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from openwfm.autoregressive.config import TransformerConfig
from openwfm.autoregressive.model import AutoregressiveWorldModel, load_autoregressive_model
from openwfm.weights import load_strict


def start_from(model: AutoregressiveWorldModel, folder: str, *, grow: bool = False) -> None:
    """Copy the weights of ``folder`` into ``model``; Medusa heads that it lacks stay as they are.

    The stages of arXiv 2501.03575, section 5.2.3, change the network: longer clips with YaRN, then
    text. ``grow`` allows what they change (see `grown`): layers and embeddings that are new keep
    their initial values. A control that is new starts without effect: its cross-attention writes
    nothing, or, where there was one for text, its tokens are zero. Raises ValueError for another
    network or another tokenizer, and for
    Medusa heads that ``model`` has no place for.
    """
    control = model.control
    readers = {} if control is None else {control.kind: type(control).read}
    published = load_autoregressive_model(folder, readers)
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
    if control is not None and published.control is None:
        _silence(model, attends=published.config.context_width is not None)
    tensors, own = published.state_dict(), model.state_dict()
    for name, value in own.items():
        new = name.startswith(("medusa.", "control.")) or (grow and _is_new(name))
        if name not in tensors and new:
            tensors[name] = value
    if grow:
        tensors["net.embed.weight"] = _longer(tensors["net.embed.weight"], own["net.embed.weight"])
    load_strict(model, tensors, folder)


@torch.no_grad()
def _silence(model: AutoregressiveWorldModel, *, attends: bool) -> None:
    """``attends``: whether the network looked at a context before."""
    assert model.control is not None
    if attends:
        model.control.silence()
        return
    for name, parameter in model.net.named_parameters():
        if name.endswith("cross_attention.out.weight"):
            parameter.zero_()


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
