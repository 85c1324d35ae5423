"""Searchers at equal numbers of evaluations, over several seeds.

    python benchmarks/agents.py [--task digits_vgg] [--budget 100] [--seeds 5] [--agents a,b] [--json FILE] [K=V ...]

Prints, per agent, the median over seeds of the best feasible reward after 25, 50, ... evaluations with its 95 %
bootstrap interval. Accuracies are shared between agents through the store: an agent's time without evaluations is what
`own_seconds` shows.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composing import compose_config
from espalier.agents.searcher import Searcher
from espalier.commands.building import build
from espalier.commands.catalogue import options as known_options
from espalier.commands.search import prepare
from espalier.envs.problem import Problem
from espalier.hw_models.machine import cpu_model

_CHECKPOINTS = (25, 50, 100, 200, 400)


def run(problem: Problem, agent: Searcher, budget: int, checkpoints: list[int]) -> dict[str, Any]:
    """One search: the best feasible reward at each checkpoint, and the seconds it took beside evaluating."""
    started = time.perf_counter()
    evaluations = list(agent.search(problem, budget))
    seconds = time.perf_counter() - started - sum(e.seconds for e in evaluations if not e.repeated)
    best = [max((e.reward for e in evaluations[:count] if e.feasible), default=-2.0) for count in checkpoints]
    return {"best": best, "evaluations": len(evaluations), "own_seconds": seconds}


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median and the 95 % bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(np.array(values), (2000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits_vgg")
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--agents", default=",".join(name for name in known_options("agent") if name != "exhaustive"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    overrides = [f"task={options.task}", *options.overrides]
    problem = prepare(compose_config(overrides)).problem
    checkpoints = [count for count in _CHECKPOINTS if count < options.budget] + [options.budget]
    rows = []
    for name in options.agents.split(","):
        runs = []
        for seed in range(options.seeds):
            agent = build(compose_config([*overrides, f"agent={name}", f"seed={seed}"])["agent"])
            runs.append(run(problem, agent, options.budget, checkpoints))
        columns = [interval([single["best"][i] for single in runs]) for i in range(len(checkpoints))]
        own = float(np.median([single["own_seconds"] for single in runs]))
        rows.append(
            {"agent": name, "runs": runs, "best": dict(zip(checkpoints, columns, strict=True)), "own_seconds": own}
        )
        shown = "  ".join(f"@{c} {m:.3f} [{a:.3f}, {b:.3f}]" for c, (m, a, b) in zip(checkpoints, columns, strict=True))
        print(f"{name:20} {shown}  {own:.1f} s", flush=True)
        if options.json:
            facts = {
                "task": options.task,
                "overrides": options.overrides,
                "cpu": cpu_model(),
                "torch": torch.__version__,
            }
            options.json.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
