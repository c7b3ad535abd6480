"""``openwfm convert KIND in=… out=…``: datasets of robots ⇄ shards, weights of others ⇄ ours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from omegaconf import DictConfig

from openwfm.config import build
from openwfm.data.importers.config import ExportConfig, ImportConfig


def main(config: DictConfig) -> int:
    """Convert and say what there is; returns 0, or 1 when every episode was rejected."""
    if config.kind == "lerobot":
        return _import(build(config.lerobot))
    if config.kind == "to_lerobot":
        return _export(build(config.to_lerobot))
    if config.kind == "tokenizer":
        return _tokenizer(config.tokenizer)
    if config.kind == "world":
        return _world(config.world)
    raise ValueError(f"kind={config.kind}: must be one of lerobot, to_lerobot, tokenizer, world")


def _tokenizer(node: DictConfig) -> int:
    from openwfm.interop.tokenizer_convert import (
        ConvertTokenizerConfig,
        read_tokenizer,
        write_tokenizer,
    )

    request = build(node)
    assert isinstance(request, ConvertTokenizerConfig)
    found = read_tokenizer(request)
    for line in found.describe():
        print(line)
    write_tokenizer(found, request.out, request.format)
    print(f"written as {request.format}: {request.out}")
    return 0


def _world(node: DictConfig) -> int:
    from openwfm.interop.world_convert import ConvertWorldConfig, read_world, write_world

    request = build(node)
    assert isinstance(request, ConvertWorldConfig)
    found = read_world(request)
    for line in found.describe():
        print(line)
    for line in write_world(found, request.out, request.format):
        print(line)
    print(f"written as {request.format}: {request.out}")
    return 0


def _import(request: ImportConfig) -> int:
    from openwfm.data.importers.lerobot import import_lerobot

    summary = import_lerobot(
        request.source,
        request.out,
        cameras=request.cameras,
        action=request.action,
        max_episodes=request.max_episodes,
        max_samples=request.max_samples,
        embed=_embedder(request.text_encoder),
        text_encoder=request.text_encoder or "",
    )
    reasons = ", ".join(f"{name} {count}" for name, count in summary.reasons.items())
    print(
        f"{summary.num_episodes} episodes: {summary.num_kept} kept ({summary.num_frames} frames), "
        f"{summary.num_rejected} rejected{f' ({reasons})' if reasons else ''}: {request.out}"
    )
    return 0 if summary.num_kept else 1


def _embedder(name: str | None) -> Callable[[str], np.ndarray] | None:
    """One sentence a call, so that the result does not depend on what else is in a batch."""
    if name is None:
        return None
    from openwfm.text import text_encoder

    encoder = text_encoder(name)
    return lambda sentence: encoder.encode([sentence])[0]


def _export(request: ExportConfig) -> int:
    from openwfm.data.importers.lerobot_export import export_lerobot

    summary = export_lerobot(
        request.source, request.out, version=request.version, robot_type=request.robot_type
    )
    print(f"{summary.num_episodes} episodes, {summary.num_frames} frames: {request.out}")
    for name in summary.left_out:
        print(f"left out (LeRobot has no place for it): {name}")
    return 0
