"""Plans made in the action world of 010, carried out in the simulator: reach for a block.

python experiments/012_planning/measure.py WORLD PROBE out=FOLDER [episodes=16] [steps=10]
    [methods=cem,mppi,random] [candidates=24] [horizon=4] [iterations=2] [num_steps=1]

Reward is minus the distance that the probe reads between gripper and goal. Every action is the
first of a new plan from the simulator's last two pictures; random actions have equal bounds and
equal steps. Writes evaluation.json, episode by episode.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openwfm.benchmarks.arm import Arm, Outcome, at_random, carried_out, nearness, planned
from openwfm.evaluation.metrics import bootstrap_interval
from openwfm.evaluation.probe import Probe
from openwfm.evaluation.table import plain_interval
from openwfm.files import write_json
from openwfm.randomness import derive_seed
from openwfm.world import Sampling, World
from openwfm.world.action import ActionWorld
from openwfm.world.planner import Planner, PlannerConfig
from openwfm.world.session import Session

SEED, RANDOM = 12, "random actions"


def main(
    weights: str,
    probe_folder: str,
    *,
    out: str,
    methods: str = "cem,mppi,random",
    episodes: int = 16,
    steps: int = 10,
    candidates: int = 24,
    horizon: int = 4,
    iterations: int = 2,
    num_steps: int = 1,
) -> None:
    world, probe, arm = World.load(weights), Probe.load(probe_folder), Arm(SEED)
    assert isinstance(world, ActionWorld)
    sampling = Sampling(num_steps=num_steps)

    def begin(video: Tensor, action: Tensor, step: int) -> Session:
        seeds = [derive_seed(SEED, "plan", step)]
        return world.session(video[None], seeds=seeds, sampling=sampling, actions=action[None])

    found: dict[str, list[Outcome]] = {RANDOM: []}
    starts, seconds = [], dict.fromkeys(methods.split(","), 0.0)
    for number in range(episodes):
        arm.start(number)
        starts.append(arm.away(arm.goal))
        found[RANDOM].append(carried_out(arm, number, steps, begin, at_random(SEED, number)))
        for method in methods.split(","):
            config = PlannerConfig(
                method=method,
                horizon=horizon,
                candidates=candidates * (iterations if method == "random" else 1),
                iterations=iterations,
                elites=max(2, candidates // 5),
                batch=candidates,
            )
            arm.start(number)
            planner = Planner(
                config, nearness(probe, arm.goal), seed=derive_seed(SEED, "p", number)
            )
            began = time.perf_counter()
            found.setdefault(method, []).append(
                carried_out(arm, number, steps, begin, planned(planner))
            )
            seconds[method] += time.perf_counter() - began
        print(
            number, {name: f"{100 * of[-1].final:.1f} cm" for name, of in found.items()}, flush=True
        )
        write_json(
            Path(out) / "evaluation.json",
            {
                "kind": "planning",
                "seed": SEED,
                "episodes": number + 1,
                "steps": steps,
                "planner": {
                    "candidates": candidates,
                    "horizon": horizon,
                    "iterations": iterations,
                    "num_steps": num_steps,
                },
                "threads": torch.get_num_threads(),
                "start_distance": interval(starts),
                "rows": {name: row(of, found[RANDOM]) for name, of in found.items()},
                "seconds_a_plan": {n: s / (number + 1) / steps for n, s in seconds.items()},
            },
        )


def row(outcomes: list[Outcome], baseline: list[Outcome]) -> dict[str, object]:
    """Metres; ``nearer`` is how much nearer than random actions at the same step, in pairs."""
    ends, others = ([o.final for o in of] for of in (outcomes, baseline))
    gaps = [b - a for a, b in zip(ends, others, strict=True)]
    return {
        "final_distance": interval(ends),
        "nearer": interval(gaps),
        "success": interval([float(o.success) for o in outcomes]),
        "by_step": np.mean([o.distances for o in outcomes], axis=0).round(5).tolist(),
        "finals": np.round(ends, 5).tolist(),
    }


def interval(values: list[float]) -> dict[str, float | int | None]:
    return plain_interval(bootstrap_interval(np.array(values), seed=SEED))


if __name__ == "__main__":
    plain = [a for a in sys.argv[1:] if "=" not in a]
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    out, methods = named.pop("out"), named.pop("methods", "cem,mppi,random")
    main(*plain, out=out, methods=methods, **{name: int(value) for name, value in named.items()})
