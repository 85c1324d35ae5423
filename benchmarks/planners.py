"""Planners of the Dyna agent alone: what they find on one and the same surrogate by about as many simulated walks.

    python benchmarks/planners.py [--task cifar10_resnet20] [--evaluations 60] [--batches 6] [--seeds 3] [--json FILE]

A surrogate is learnt from some evaluated plans of a real task with an astronomic space. Then every planner plans a few
batches on it, as it would between evaluations that teach nothing new. Shown are the values (upper confidence bounds of
the reward) of the best walk and of the tenth best in the first batch and in the last.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composing import compose_config
from espalier.agents.dyna.belief import Belief, BeliefRecipe
from espalier.agents.dyna.planners import EvolutionPlanner, Planner
from espalier.agents.dyna.search import DynaSearch
from espalier.agents.dyna.simulation import Pool
from espalier.commands.building import build
from espalier.commands.catalogue import options as known_options
from espalier.commands.search import prepare
from espalier.envs.problem import Problem


def learnt(problem: Problem, evaluations: int) -> Belief:
    """What is believed after a search."""
    belief = Belief(problem, BeliefRecipe(), np.random.default_rng(0))
    for evaluation in DynaSearch(EvolutionPlanner()).search(problem, evaluations):
        belief.add(np.array(problem.space.indices(evaluation.plan)), evaluation)
    belief.learn()
    return belief


def plan(belief: Belief, planner: Planner, seed: int, batches: int) -> list[list[float]]:
    """Per batch: walks simulated, value of the best and of the tenth best walk, seconds."""
    planner.begin(belief.tables, seed)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(batches):
        pool = Pool(lambda walks: belief.values(walks, 1.0), belief.walks.shape[1])
        started = time.perf_counter()
        planner.plan(pool, belief.elites(20), rng)
        seconds = time.perf_counter() - started
        _, values = pool.ranked()
        rows.append([float(len(pool)), float(values[0]), float(values[9]), seconds])
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="cifar10_resnet20")
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", default=["device=raspberrypi4", "data.search=300"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    problem = prepare(compose_config([f"task={given.task}", *given.overrides])).problem
    belief = learnt(problem, given.evaluations)
    print(f"{given.task}: {problem.space.size:.2g} plans, best evaluated reward {belief.rewards.max():.4f}", flush=True)
    report: dict[str, Any] = {}
    for name in known_options("planner"):
        if name != "everything":
            node = compose_config(["agent=dyna", f"planner@agent.planner={name}"])["agent"]["planner"]
            rows = np.array([plan(belief, build(node), seed, given.batches) for seed in range(given.seeds)])
            report[name] = rows.tolist()
            first, last = rows.mean(0)[[0, -1]]
            shown = "  ".join(f"{w:.0f} walks: {a:.4f}, {b:.4f} in {s:.2f} s" for w, a, b, s in (first, last))
            print(f"{name:22} {shown}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
