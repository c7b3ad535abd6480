from collections.abc import Iterator

import pytest

from openwfm.simulation.render import choose_backend
from openwfm.simulation.stage import Stage


@pytest.fixture(scope="session")
def backend() -> str:
    pytest.importorskip("mujoco")
    try:
        return choose_backend()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def stage(backend: str) -> Iterator[Stage]:
    stage = Stage(size=64, supersample=1, fps=24, backend=backend)
    yield stage
    stage.close()
