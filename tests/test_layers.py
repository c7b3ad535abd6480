"""Imports point one way (docs/architecture): read from the source, nothing is executed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "openwfm"
BASE = {
    "shapes",
    "randomness",
    "files",
    "extras",
    "weights",
    "video",
    "signatures",
    "stages",
    "provenance",
    "page",
}
MODELS = {"tokenizer", "diffusion", "autoregressive", "posttraining", "world", "evaluation"}

# What each room may import of openwfm besides itself and BASE.
ALLOWED: dict[str, set[str]] = {
    "nn": set(),
    "data": {"nn"},
    "text": set(),
    "simulation": {"data", "text"},
    "curation": {"nn", "data", "text"},
    "envs": {"simulation"},
    "guardrails": set(),
    "tokenizer": {"nn", "data"},
    "diffusion": {"nn", "data", "tokenizer"},
    "autoregressive": {"nn", "data", "tokenizer"},
    "posttraining": {"nn", "data", "tokenizer", "diffusion", "autoregressive"},
    "interop": {"nn", "tokenizer", "diffusion", "autoregressive"},
    "world": {
        "nn",
        "data",
        "text",
        "tokenizer",
        "diffusion",
        "autoregressive",
        "interop",
        "posttraining",
    },
    "evaluation": {
        "nn",
        "data",
        "text",
        "tokenizer",
        "diffusion",
        "autoregressive",
        "posttraining",
        "world",
    },
    "callbacks": {"data", "world", "evaluation"},
    "benchmarks": {
        "nn",
        "data",
        "tokenizer",
        "diffusion",
        "autoregressive",
        "world",
        "interop",
        "simulation",
        "curation",
        "evaluation",
    },
}
HEAVY = {"mujoco", "transformers", "onnxruntime", "pycolmap", "ray", "cv2", "diffusers"}
FILES = sorted(SOURCE.rglob("*.py"))


def _imports(file: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    nodes = tree.body if top_level_only else [n for n in ast.walk(tree) if id(n) not in typing_only]
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{file}: relative import"
            found.add(node.module)
            if node.module == "openwfm":
                found.update(f"openwfm.{alias.name}" for alias in node.names)
    return found


def _room(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_a_room_imports_only_what_lies_below_it(file: Path) -> None:
    room = _room(file)
    if room in ("commands", "cli", "config", "__init__"):
        return
    for name in _imports(file):
        if not name.startswith("openwfm."):
            continue
        other = name.split(".")[1]
        allowed = BASE | {room} | ALLOWED.get(room, set())
        assert other in allowed, f"{file.name}: openwfm.{room} must not import openwfm.{other}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_frameworks_stay_in_their_files(file: Path) -> None:
    place = file.relative_to(SOURCE)
    room, names = _room(file), {name.split(".")[0] for name in _imports(file)}
    if names & {"hydra", "omegaconf"}:
        assert room in ("config", "cli", "commands"), f"{place}: hydra/omegaconf"
    if "lightning" in names:
        assert (
            room in ("callbacks", "commands")
            or place.name == "module.py"
            or str(place) == "data/datamodule.py"
        ), f"{place}: lightning"
    if "wandb" in names:
        assert room == "callbacks", f"{place}: wandb"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_heavy_libraries_are_imported_where_they_are_used(file: Path) -> None:
    names = {name.split(".")[0] for name in _imports(file, top_level_only=True)}
    assert not names & HEAVY, f"{file.name}: {sorted(names & HEAVY)} at module level"


def test_every_package_is_listed_for_the_wheel() -> None:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(SOURCE.parents[1] / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    folders = {file.parent for file in SOURCE.rglob("__init__.py")}
    real = {".".join(("openwfm", *f.relative_to(SOURCE).parts)) for f in folders}
    assert listed == real | {"openwfm.conf"}


def test_files_are_short() -> None:
    lengths = {f.relative_to(SOURCE): len(f.read_text().splitlines()) for f in FILES}
    assert all(count <= 500 for count in lengths.values()), lengths
    commands = {k: v for k, v in lengths.items() if k.parts[0] == "commands"}
    assert all(count <= 100 for count in commands.values()), commands
