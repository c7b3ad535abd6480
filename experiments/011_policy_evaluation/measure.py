"""Does the action world of 010 rank scripted policies as the simulator does?

python experiments/011_policy_evaluation/measure.py WORLD PROBE out=FOLDER [episodes=32] [steps=16]

Five policies from expert to random reach for a block: in the simulator, and in the learned world
from the same first two pictures, where they act on what the probe reads. Writes evaluation.json
and strip.png.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from openwfm.benchmarks.arm import Arm, Outcome, in_reality, in_world
from openwfm.evaluation.metrics import bootstrap_interval
from openwfm.evaluation.policy_ranks import compare_policies
from openwfm.evaluation.probe import Probe
from openwfm.evaluation.table import plain_interval
from openwfm.files import write_json
from openwfm.simulation.manipulation.policies import SKILLS
from openwfm.video import stack_rows, strip, to_uint8, write_png
from openwfm.weights import plain
from openwfm.world import World
from openwfm.world.action import ActionWorld

SEED = 11


def main(weights: str, probe_folder: str, *, out: str, episodes: int = 32, steps: int = 16) -> None:
    world, probe, arm = World.load(weights), Probe.load(probe_folder), Arm(SEED)
    assert isinstance(world, ActionWorld)
    numbers = range(episodes)
    places: dict[str, dict[str, list[Outcome]]] = {"simulator": {}, "probe": {}, "world": {}}
    rows = []
    for skill in reversed(SKILLS):
        pairs = [in_reality(arm, skill, number, steps, probe) for number in numbers]
        places["simulator"][skill] = [pair[0] for pair in pairs]
        places["probe"][skill] = [pair[1] for pair in pairs]
        places["world"][skill], shown = in_world(arm, world, skill, numbers, steps, probe)
        rows.append(strip(to_uint8(shown[0])))
        print(
            skill, {p: f"{np.mean([o.success for o in v[skill]]):.2f}" for p, v in places.items()}
        )
    report = {
        "kind": "policies",
        "episodes": episodes,
        "steps": steps,
        "seed": SEED,
        "policies": {
            skill: {
                place: {
                    "success": interval([o.success for o in by[skill]]),
                    "final_distance": interval([o.final for o in by[skill]]),
                }
                for place, by in places.items()
            }
            for skill in places["simulator"]
        },
        "agreement": {
            f"{place}: {name}": plain(
                asdict(
                    compare_policies(
                        {s: [measure(o) for o in v] for s, v in places["simulator"].items()},
                        {s: [measure(o) for o in v] for s, v in places[place].items()},
                        seed=SEED,
                    )
                )
            )
            for place in ("world", "probe")
            for name, measure in (("success", success), ("minus final distance", closeness))
        },
    }
    write_json(Path(out) / "evaluation.json", report)
    write_png(Path(out) / "strip.png", stack_rows(rows))
    for name, found in report["agreement"].items():  # type: ignore[attr-defined]
        print(name, {k: found[k] for k in ("pearson", "spearman", "rank_violation", "verdict")})


def success(outcome: Outcome) -> float:
    return float(outcome.success)


def closeness(outcome: Outcome) -> float:
    return -outcome.final


def interval(values: list[float] | list[bool]) -> dict[str, float | int | None]:
    return plain_interval(bootstrap_interval(np.array(values, np.float64), seed=SEED))


if __name__ == "__main__":
    plain_arguments = [a for a in sys.argv[1:] if "=" not in a]
    named = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    counts = {name: int(named[name]) for name in ("episodes", "steps") if name in named}
    main(*plain_arguments, out=named["out"], **counts)
