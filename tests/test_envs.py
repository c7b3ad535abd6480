"""The gymnasium environments, as a user gets them: in a fresh process."""

import subprocess
import sys

import pytest

CODE = """
import gymnasium
{before}
env = gymnasium.make("{name}", task="push", pixels=False)
_, info = env.reset(seed=0)
print(env.action_space.shape, env.spec.id)
"""


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("import openwfm.envs", "openwfm/Manipulation-v0"),
        ("", "openwfm.envs:openwfm/Manipulation-v0"),
    ],
)
def test_make_finds_the_environment(before: str, name: str) -> None:
    pytest.importorskip("mujoco")
    pytest.importorskip("gymnasium")
    code = CODE.format(before=before, name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "(7,) openwfm/Manipulation-v0" in done.stdout, done.stderr
