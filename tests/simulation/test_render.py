import subprocess

import numpy as np
import pytest

from openwfm.simulation import render
from openwfm.simulation.render import choose_backend, shrink


@pytest.fixture(autouse=True)
def _forget_backend():  # type: ignore[no-untyped-def]
    choose_backend.cache_clear()
    yield
    choose_backend.cache_clear()


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shrink_is_a_rounded_mean_of_blocks(factor: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 3)).astype(np.uint8)
    pixels[:4] = 255
    blocks = pixels.reshape(16 // factor, factor, 32 // factor, factor, 3).mean((1, 3))
    np.testing.assert_array_equal(shrink(pixels, factor), np.floor(blocks + 0.5))


def test_without_gl_the_error_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    tried = []

    def fails(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        tried.append(options["env"]["MUJOCO_GL"])  # type: ignore[index]
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(render.subprocess, "run", fails)
    with pytest.raises(RuntimeError, match="apt-get install libegl1 libgl1-mesa-dri.*libosmesa6"):
        choose_backend()
    assert tried == ["egl", "osmesa"]


def test_a_backend_that_does_not_exist_is_found_out_for_real() -> None:
    pytest.importorskip("mujoco")
    assert not render._works("no_such_backend")


def test_a_window_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ValueError, match="MUJOCO_GL=glfw: must be one of egl, osmesa"):
        choose_backend()
