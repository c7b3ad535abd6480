"""Configs: compose, check, build. The only importer of hydra's ``instantiate``.

`check` binds every ``_target_`` to its signature by reading source code (`openwfm.signatures`),
so a typo at any level is reported before torch is even imported.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from openwfm.signatures import Signature, UnknownTarget, find_signature

META_KEYS = frozenset({"_target_", "_partial_", "_args_", "_recursive_", "_convert_"})


@dataclass(frozen=True, kw_only=True)
class TrainSchema:
    """Root keys of ``openwfm train``; an unknown one is an error."""

    name: str
    run: str
    seed: int
    num_threads: int | None
    paths: Any
    data: Any
    model: Any
    trainer: Any
    callbacks: Any
    logger: Any


SCHEMAS: dict[str, type] = {"train": TrainSchema}


class ConfigError(ValueError):
    """A config that cannot be built: names the key, the rule and, where known, the file."""


def config_folder() -> Path:
    """The ``conf/`` of the checkout, or the copy inside the installed package."""
    package = Path(__file__).resolve().parent
    for folder in (package.parents[1] / "conf", package / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError("conf/: not found beside the package nor inside it; reinstall openwfm")


def compose(verb: str, overrides: Sequence[str] = (), *, unchecked: bool = False) -> DictConfig:
    """Compose ``conf/<verb>.yaml`` with overrides and check it (for notebooks and tests)."""
    check_overrides(verb, overrides)
    config = _compose(verb, overrides)
    choices = config.hydra.runtime.choices
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    OmegaConf.set_struct(config, True)
    if not unchecked:
        check(config, verb, {str(k): str(v) for k, v in choices.items()})
    return config


def _compose(verb: str, overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra_compose(verb, list(overrides), return_hydra_config=True)


def build(node: Any, *args: Any, **extra: Any) -> Any:
    """Instantiate a checked node; ``extra`` are keyword arguments made in code (callbacks, …)."""
    try:
        return instantiate(node, *args, _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ValueError | ImportError):
            raise cause from None
        raise


# --- check -------------------------------------------------------------------------------------


def check(config: DictConfig, verb: str, choices: dict[str, str] | None = None) -> None:
    """Bind every ``_target_`` to its signature; raise ConfigError for the first key that is off."""
    files = _Files(verb, choices or {})
    schema = SCHEMAS.get(verb)
    if schema is not None:
        _check_keys(set(map(str, config)), Signature.of_fields(fields(schema)), "", files)
    for path, node in _nodes(config, ""):
        _check_node(path, node, files)
    _check_missing(config, files)


def _nodes(node: DictConfig, path: str) -> Iterator[tuple[str, DictConfig]]:
    if "_target_" in node:
        yield path, node
    for key, child in node.items_ex(resolve=False):
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _nodes(child, _join(path, str(key)))


def _check_node(path: str, node: DictConfig, files: _Files) -> None:
    target = str(node["_target_"])
    try:
        signature = find_signature(target)
    except UnknownTarget as error:
        raise ConfigError(f"{path}._target_={target}: {error}{files.where(path)}") from None
    given = {str(key) for key in node if str(key) not in META_KEYS}
    _check_keys(given, signature, path, files)
    if not node.get("_partial_", False):
        absent = [name for name in signature.required if name not in given]
        if absent and path.partition(".")[0] != "trainer":
            raise ConfigError(
                f"{_join(path, absent[0])}: missing; {target} requires it{files.where(path)}"
            )


def _check_keys(given: Iterable[str], signature: Signature, path: str, files: _Files) -> None:
    for key in sorted(given):
        # A target with **kwargs may know more names than its own, but a near miss is a typo.
        if signature.open_ended and not difflib.get_close_matches(key, signature.names, 1, 0.75):
            continue
        if key not in signature.names:
            raise ConfigError(
                f"{_join(path, key)}: unknown key{_nearest(key, path, signature.names)}"
                f"{files.where(_join(path, key))}"
            )


def _check_missing(config: DictConfig, files: _Files) -> None:
    missing = sorted(_missing(config, ""))
    if missing:
        raise ConfigError(
            f"{missing[0]}: needs a value, for instance `{missing[0]}=…`{files.where(missing[0])}"
        )


def _missing(node: DictConfig, path: str) -> Iterator[str]:
    """Keys whose value is ``???``; nothing is resolved (``hydra:`` only resolves inside a job)."""
    for key, child in node.items_ex(resolve=False):
        if OmegaConf.is_missing(node, key):
            yield _join(path, str(key))
        elif isinstance(child, DictConfig) and not child._is_none():
            yield from _missing(child, _join(path, str(key)))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _nearest(key: str, path: str, names: Iterable[str]) -> str:
    known = sorted(names)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"; nearest valid key: {_join(path, close[0])}"
    return f"; valid keys: {', '.join(known)}"


class _Files:
    """Which config file a key was written in."""

    def __init__(self, verb: str, choices: dict[str, str]) -> None:
        self.folder = config_folder()
        self.sources: list[tuple[str, Path]] = [("", self.folder / f"{verb}.yaml")]
        for group, choice in choices.items():
            group, _, package = group.partition("@")
            file = self.folder / group / f"{choice}.yaml"
            if file.is_file():
                is_global = "@package _global_" in file.read_text()
                at = "" if is_global else (package or group).replace("/", ".")
                self.sources.append((at, file))

    def where(self, path: str) -> str:
        """`` (in conf/…)``, or nothing when the key came from the command line."""
        best: tuple[int, Path] | None = None
        for package, file in self.sources:
            depth = self._depth(path, package, file)
            if depth and (best is None or depth >= best[0]):
                best = (depth, file)
        if best is None:
            return ""
        return f" (in {os.path.relpath(best[1], self.folder.parent)})"

    @staticmethod
    def _depth(path: str, package: str, file: Path) -> int:
        parts, prefix = path.split("."), package.split(".") if package else []
        if parts[: len(prefix)] != prefix:
            return 0
        node, depth = yaml.safe_load(file.read_text()) or {}, len(prefix)
        for part in parts[len(prefix) :]:
            if not isinstance(node, dict) or part not in node:
                return depth if depth > len(prefix) else (depth if prefix else 0)
            node, depth = node[part], depth + 1
        return depth


# --- overrides ---------------------------------------------------------------------------------


def check_overrides(verb: str, overrides: Sequence[str]) -> None:
    """Reject an override of an unknown key or group choice, naming the nearest valid one."""
    folder = config_folder()
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"command line: {error}") from None
    groups, values = [], []
    for override in parsed:
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if (folder / key).is_dir() and isinstance(override.value(), str | type(None) | int):
            groups.append(_first(override))
            _check_choice(key, str(groups[-1].partition("=")[2]), folder, override)
        elif (folder / key).is_dir() and override.is_sweep_override():
            groups.append(_first(override))
        elif not override.is_add() and not override.is_delete():
            values.append(key)
    try:
        config = _compose(verb, groups)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"conf/{verb}.yaml: {error}") from None
    for key in values:
        _check_override_key(config, key, verb)


def _first(override: Any) -> str:
    """The override with its first value, where it names several (a sweep)."""
    if override.is_sweep_override():
        value = next(iter(override.sweep_string_iterator()))
        return f"{override.get_key_element()}={value}"
    return str(override.input_line)


def _check_choice(group: str, choice: str, folder: Path, override: Any) -> None:
    names = sorted(file.stem for file in (folder / group).glob("*.yaml"))
    if override.value() is None or choice in ("null", "None") or choice in names:
        return
    if (folder / group / f"{choice}.yaml").is_file():
        return
    close = difflib.get_close_matches(choice, names, n=1, cutoff=0.4)
    hint = f"nearest: {close[0]}" if close else f"one of: {', '.join(names)}"
    raise ConfigError(f"{group}={choice}: no such choice; {hint} (in conf/{group}/)")


def _check_override_key(config: DictConfig, key: str, verb: str) -> None:
    node: Any = config
    path = ""
    for part in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
            return
        if part not in node.keys():  # noqa: SIM118 (`in` denies keys whose value is ???)
            names = [str(name) for name in node if name != "hydra" and name not in META_KEYS]
            if "_target_" in node and part in _accepted(str(node["_target_"])):
                raise ConfigError(
                    f"{_join(path, part)}: not set in this config; use "
                    f"`+{key}=…` to add it (on the command line of openwfm {verb})"
                )
            raise ConfigError(
                f"{_join(path, part)}: unknown key{_nearest(part, path, names)} "
                f"(on the command line of openwfm {verb})"
            )
        path = _join(path, part)
        node = node._get_node(part)


def _accepted(target: str) -> frozenset[str]:
    try:
        return find_signature(target).names
    except UnknownTarget:
        return frozenset()
