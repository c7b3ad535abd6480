"""The compiled decode loop is built for the tests, not in the user's cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openwfm.autoregressive.native import library


@pytest.fixture(scope="session", autouse=True)
def _library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("OPENWFM_CACHE", str(tmp_path_factory.mktemp("native")))
    library.library.cache_clear()
    yield
    library.library.cache_clear()
    patch.undo()
