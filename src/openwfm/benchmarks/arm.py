"""The simulated arm and a learned world side by side: scripted policies in both, plans made in
one and carried out in the other.

A policy acts on the state of the world that it is in: the simulator's own, or what a probe reads
out of the learned world's pictures. Things other than the gripper are taken to stay where the
first picture's state has them, so this holds for tasks that move nothing (reach).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.evaluation.probe import Probe
from openwfm.randomness import derive_seed, numpy_generator
from openwfm.simulation.manipulation.actions import rotation
from openwfm.simulation.manipulation.env import ManipulationEnv
from openwfm.simulation.manipulation.policies import Policy
from openwfm.simulation.manipulation.simulator import Truth
from openwfm.simulation.manipulation.tasks import HOLD, REACHED, hover_point
from openwfm.world.action import ActionWorld
from openwfm.world.planner import Planner
from openwfm.world.session import ActionSpace, Session

TASK = "reach"
MOVES = 3  # leading dimensions of an action that move the gripper


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one episode: metres from the goal after every step, and whether it counts as reached
    (nearer than the task asks, for as many steps as it asks)."""

    distances: Float[np.ndarray, " s"]

    @property
    def success(self) -> bool:
        near = self.distances < REACHED
        runs = np.convolve(near, np.ones(HOLD), mode="valid")
        return bool((runs >= HOLD).any())

    @property
    def final(self) -> float:
        return float(self.distances[-1])


class Arm:
    """Episodes of the reach task; episode i is a function of (seed, i)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.env = ManipulationEnv(task=TASK, max_steps=100_000)

    def start(self, number: int) -> tuple[Float[Tensor, "3 2 h w"], Float[Tensor, "1 a"]]:
        """The first two pictures of an episode, and the action between them, which is to stay."""
        first, _ = self.env.reset(seed=derive_seed(self.seed, "arm", number))
        action = still(self.env.truth())
        second = self.env.step(action)[0]
        frames = torch.from_numpy(np.stack([first["image"], second["image"]]))
        video = frames.permute(3, 0, 1, 2).float() / 127.5 - 1
        return video, torch.tensor(action, dtype=torch.float32)[None]

    @property
    def goal(self) -> np.ndarray:
        """Where the gripper is to be, metres."""
        return hover_point(self.env.scene, self.env.truth())

    def step(self, action: np.ndarray) -> Float[Tensor, "3 h w"]:
        frame = self.env.step(action)[0]["image"]
        return torch.from_numpy(frame).permute(2, 0, 1).float() / 127.5 - 1

    def away(self, goal: np.ndarray) -> float:
        return float(np.linalg.norm(self.env.truth().position - goal))

    def policy(self, skill: str, number: int) -> Policy:
        draw = numpy_generator(self.seed, f"arm/{skill}", number)
        return Policy(self.env.scene, skill, draw)


def still(truth: Truth) -> np.ndarray:
    return np.array([0.0] * 6 + [truth.opening])


def in_reality(
    arm: Arm, skill: str, number: int, steps: int, probe: Probe
) -> tuple[Outcome, Outcome]:
    """A policy in the simulator: by the simulator's state, and by what the probe reads."""
    arm.start(number)
    goal, policy = arm.goal, arm.policy(skill, number)
    true, frames = [], []
    for _ in range(steps):
        frames.append(arm.step(policy.act(arm.env.truth())))
        true.append(arm.away(goal))
    read = probe.read(torch.stack(frames))[:, :3].numpy()
    return (
        Outcome(distances=np.array(true)),
        Outcome(distances=np.linalg.norm(read - goal, axis=1)),
    )


def in_world(
    arm: Arm, world: ActionWorld, skill: str, numbers: Sequence[int], steps: int, probe: Probe
) -> tuple[list[Outcome], Float[Tensor, "b 3 s h w"]]:
    """The same policy in the learned world: it sees what the probe reads. All episodes at once."""
    starts, truths, goals, policies = [], [], [], []
    for number in numbers:
        starts.append(arm.start(number)[0])
        truths.append(arm.env.truth())
        goals.append(arm.goal)
        policies.append(arm.policy(skill, number))
    seeds = [derive_seed(arm.seed, "world", number) for number in numbers]
    session = world.session(torch.stack(starts), seeds=seeds)
    away, shown = [], []
    for _ in range(steps):
        actions = [policy.act(truth) for policy, truth in zip(policies, truths, strict=True)]
        frames = session.step(torch.tensor(np.stack(actions), dtype=torch.float32))
        read = probe.read(frames).numpy()
        truths = [
            seen(truth, action, row)
            for truth, action, row in zip(truths, actions, read, strict=True)
        ]
        away.append(np.linalg.norm(read[:, :3] - np.stack(goals), axis=1))
        shown.append(frames)
    rows = np.stack(away, axis=1)
    return [Outcome(distances=row) for row in rows], torch.stack(shown, dim=2)


def seen(truth: Truth, action: np.ndarray, read: Float[np.ndarray, " k"]) -> Truth:
    """The state after an action: place and opening as read, turned as the action says."""
    turned = rotation(truth.euler) @ rotation(action[3:6])
    yaw = np.arctan2(turned[1, 0], turned[0, 0])
    return replace(
        truth,
        position=read[:3].astype(np.float64),
        euler=np.array([0.0, 0.0, yaw]),
        opening=float(np.clip(read[3], 0, 1)),
    )


def upright(space: ActionSpace, opening: float) -> ActionSpace:
    """Only the moves are free: nothing turns, and the gripper stays as open as it is."""
    low, high = list(space.low), list(space.high)
    for index in range(MOVES, len(low)):
        middle = opening if index == len(low) - 1 else 0.0
        low[index], high[index] = middle - 1e-4, middle + 1e-4
    return replace(space, low=tuple(low), high=tuple(high))


def nearness(probe: Probe, goal: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
    """Reward of frames: minus the metres from the goal, as the probe reads them."""
    place = torch.tensor(goal, dtype=torch.float32)
    return lambda frames, actions: -(probe.read(frames)[:, :3] - place).norm(dim=1)


# (the session that begins with the last two real pictures, step) -> the next action.
Act = Callable[[Session, int], Float[Tensor, " a"]]


def carried_out(
    arm: Arm, number: int, steps: int, begin: Callable[[Tensor, Tensor, int], Session], act: Act
) -> Outcome:
    """An episode in the simulator whose every action is chosen in the learned world, which sees
    the simulator's last two pictures (receding horizon)."""
    video, action = arm.start(number)
    goal, away = arm.goal, []
    for step in range(steps):
        session = begin(video, action, step)
        session.actions = upright(session.actions, arm.env.truth().opening)
        chosen = act(session, step)
        frame = arm.step(chosen.double().numpy())
        video, action = torch.stack((video[:, -1], frame), dim=1), chosen[None]
        away.append(arm.away(goal))
    return Outcome(distances=np.array(away))


def planned(planner: Planner) -> Act:
    planner.reset()
    return lambda session, step: planner.act(session)


def at_random(seed: int, number: int) -> Act:
    """Uniform in the same bounds as the planner's."""
    draw = numpy_generator(seed, "arm/random actions", number)

    def act(session: Session, step: int) -> Tensor:
        low, high = np.array(session.actions.low), np.array(session.actions.high)
        return torch.tensor(draw.uniform(low, high), dtype=torch.float32)

    return act
