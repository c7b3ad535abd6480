"""How often scripted policies succeed: a table over tasks and skills.

``python -m openwfm.simulation.manipulation.evaluate 50 0``: 50 episodes of each, seed 0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium

from openwfm.randomness import derive_seed, numpy_generator
from openwfm.simulation.manipulation.env import ManipulationEnv
from openwfm.simulation.manipulation.policies import SKILLS, Policy
from openwfm.simulation.manipulation.register import ENV_ID, register
from openwfm.simulation.manipulation.scene import TASKS


@dataclass(frozen=True, kw_only=True)
class Score:
    """``steps`` is the mean number of actions of the successes, ``rejected`` counts episodes that
    were broken off."""

    task: str
    skill: str
    episodes: int
    successes: int
    steps: float
    rejected: int

    @property
    def rate(self) -> float:
        return self.successes / self.episodes


def evaluate_policies(
    episodes: int,
    *,
    tasks: Sequence[str] = TASKS[:-1],
    skills: Sequence[str] = tuple(SKILLS),
    seed: int = 0,
    max_steps: int = 40,
) -> list[Score]:
    """The same scenes for every skill, in the registered environment, without pictures."""
    register()
    scores = []
    for task in tasks:
        env = gymnasium.make(ENV_ID, task=task, pixels=False, max_steps=max_steps).unwrapped
        assert isinstance(env, ManipulationEnv)
        for skill in skills:
            outcomes = [_episode(env, skill, seed, number) for number in range(episodes)]
            steps = [steps for steps, info in outcomes if info["success"]]
            scores.append(
                Score(
                    task=task,
                    skill=skill,
                    episodes=episodes,
                    successes=len(steps),
                    steps=sum(steps) / max(len(steps), 1),
                    rejected=sum(bool(info["rejected"]) for _, info in outcomes),
                )
            )
        env.close()
    return scores


def _episode(
    env: ManipulationEnv, skill: str, seed: int, number: int
) -> tuple[int, dict[str, Any]]:
    env.reset(seed=derive_seed(seed, f"manipulation/evaluate/{env.task}", number))
    draw = numpy_generator(seed, f"manipulation/evaluate/{skill}", number)
    policy = Policy(env.scene, skill, draw)
    steps, ended = 0, False
    while not ended:
        _, _, terminated, truncated, info = env.step(policy.act(env.truth()))
        steps, ended = steps + 1, terminated or truncated
    return steps, info


def table(scores: Sequence[Score]) -> str:
    lines = [f"{'task':16}{'skill':10}{'success':>9}{'steps':>8}{'rejected':>10}"]
    lines += [
        f"{s.task:16}{s.skill:10}{100 * s.rate:8.0f}%{s.steps:8.1f}{s.rejected:10d}" for s in scores
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:3]]
    episodes, seed = given + [50, 0][len(given) :]
    print(table(evaluate_policies(episodes, seed=seed)))
