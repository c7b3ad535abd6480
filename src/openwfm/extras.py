"""Optional libraries: import where used, and say what to install when one is missing."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType


class MissingExtraError(ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` or raise MissingExtraError naming the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{module} is not installed ({error}): pip install "openwfm[{extra}]"'
        ) from error


def package_folder(package: str, extra: str) -> Path:
    """Folder of an installed package that is used for its data files; it is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(
            f'package {package} is not installed: pip install "openwfm[{extra}]"'
        )
    return Path(next(iter(found.submodule_search_locations)))
