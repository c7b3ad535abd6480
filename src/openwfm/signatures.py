"""Signatures read from source code, without importing it.

Importing torch takes seconds; parsing the one file that defines a class takes milliseconds. A
config can therefore be checked against its targets before anything heavy is loaded.
"""

from __future__ import annotations

import ast
import difflib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import MISSING, Field, dataclass
from functools import cache
from pathlib import Path
from typing import Any


class UnknownTarget(ValueError):
    """A dotted path that names no class or function."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Accepted keyword names; ``open_ended`` when ``**kwargs`` accepts any."""

    names: frozenset[str]
    required: tuple[str, ...] = ()
    open_ended: bool = False

    @classmethod
    def of_fields(cls, items: Iterable[Field[Any]]) -> Signature:
        items = tuple(items)
        needed = (f.name for f in items if f.default is MISSING and f.default_factory is MISSING)
        return cls(names=frozenset(f.name for f in items), required=tuple(needed))


@cache
def find_signature(target: str) -> Signature:
    """Signature of the class or function at a dotted path.

    Raises UnknownTarget with the nearest name when the path does not exist.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise UnknownTarget("must be a dotted path, for instance package.module.Class")
    file, node = _definition(module, name)
    if isinstance(node, ast.FunctionDef):
        return _function(node, is_method=False)
    return _class(file, node)


def _definition(
    module: str, name: str, depth: int = 0
) -> tuple[str, ast.ClassDef | ast.FunctionDef]:
    """The module that really defines ``name`` (following re-exports), and its syntax."""
    tree = _parse(module)
    names = []
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
            if node.name == name:
                return module, node
        if isinstance(node, ast.ImportFrom) and depth < 8:
            for alias in node.names:
                names.append(alias.asname or alias.name)
                if (alias.asname or alias.name) == name:
                    return _definition(_absolute(module, node), alias.name, depth + 1)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    raise UnknownTarget(
        f"module {module} defines no {name}" + (f"; nearest: {close[0]}" if close else "")
    )


def _statements(tree: ast.Module) -> Iterable[ast.stmt]:
    for node in tree.body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from node.body
            yield from node.orelse


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


@cache
def _file(module: str) -> Path:
    top, *rest = module.split(".")
    loaded = sys.modules.get(top)
    spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        raise UnknownTarget(f"no package named {top} is installed")
    if not rest:
        return Path(spec.origin)
    locations = list(spec.submodule_search_locations or ())
    for part in rest:
        found = importlib.machinery.PathFinder.find_spec(part, locations)
        if found is None or found.origin is None:
            raise UnknownTarget(f"package {top} has no module {module}")
        spec, locations = found, list(found.submodule_search_locations or ())
    return Path(str(spec.origin))


@cache
def _parse(module: str) -> ast.Module:
    file = _file(module)
    if file.suffix != ".py":
        raise UnknownTarget(f"module {module} is compiled and cannot be read")
    return ast.parse(file.read_text(encoding="utf-8"))


def _function(node: ast.FunctionDef, *, is_method: bool) -> Signature:
    positional = [*node.args.posonlyargs, *node.args.args][1 if is_method else 0 :]
    names = [arg.arg for arg in positional]
    required = names[: len(names) - len(node.args.defaults)]
    for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        names.append(arg.arg)
        if default is None:
            required.append(arg.arg)
    return Signature(
        names=frozenset(names), required=tuple(required), open_ended=node.args.kwarg is not None
    )


def _class(module: str, node: ast.ClassDef) -> Signature:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _function(item, is_method=True)
    bases = [found for base in node.bases if (found := _base(module, base))]
    if any("dataclass" in ast.unparse(item) for item in node.decorator_list):
        return _dataclass(node, [_class(*base) for base in bases])
    if bases:
        return _class(*bases[0])
    return Signature(names=frozenset(), open_ended=bool(node.bases))


def _base(module: str, base: ast.expr) -> tuple[str, ast.ClassDef] | None:
    if isinstance(base, ast.Subscript):
        base = base.value
    if not isinstance(base, ast.Name):
        return None
    try:
        where, node = _definition(module, base.id)
    except UnknownTarget:
        return None
    return (where, node) if isinstance(node, ast.ClassDef) else None


def _dataclass(node: ast.ClassDef, bases: list[Signature]) -> Signature:
    names = {name for base in bases for name in base.names}
    required = [name for base in bases for name in base.required]
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        kind = ast.unparse(item.annotation)
        if kind.startswith("ClassVar") or (item.value and "init=False" in ast.unparse(item.value)):
            continue
        names.add(item.target.id)
        if item.value is None and item.target.id not in required:
            required.append(item.target.id)
    return Signature(names=frozenset(names), required=tuple(required))
