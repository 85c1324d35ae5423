"""Do the bank's errors, which cost no evaluation, rank plans as their accuracy does?

    python benchmarks/errors.py [--tasks cifar10_resnet20,...] [--plans 120] [--json FILE] [OVERRIDE ...]

Random plans that compress a random share of the sites are evaluated on a modelled device. Printed is Spearman's rank
correlation of their accuracy on the search split with the negative sum over the sites of the errors to some powers,
over all plans and over the better half of them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from composing import compose_config
from espalier.commands.search import prepare
from espalier.envs.problem import Problem
from scipy.stats import spearmanr

_POWERS = (0.5, 1.0, 1.5, 2.0)


def measure(problem: Problem, plans: int) -> dict[str, dict[str, float]]:
    """Power of the errors -> correlations over all plans and over the better half."""
    rng = np.random.default_rng(0)
    walks = [_random_walk(problem, rng) for _ in range(plans)]
    accuracies = np.array([problem.evaluate_walk(walk).metrics.accuracy for walk in walks])
    errors = np.array([problem.errors(walk) for walk in walks])
    better = accuracies > np.median(accuracies)
    found = {}
    for power in _POWERS:
        summed = (errors**power).sum(1)
        pairs = {"all": (summed, accuracies), "better half": (summed[better], accuracies[better])}
        found[str(power)] = {
            name: float(spearmanr(-sums, reached).statistic) for name, (sums, reached) in pairs.items()
        }
    return found


def _random_walk(problem: Problem, rng: np.random.Generator) -> tuple[int, ...]:
    share = rng.random()
    walk = [index if rng.random() < share else 0 for index in problem.space.random(rng)]
    return problem.space.canonical(walk)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="cifar10_resnet20,fashion_lenet5,digits_vgg")
    parser.add_argument("--plans", type=int, default=120)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    report: dict[str, Any] = {}
    for task in options.tasks.split(","):
        problem = prepare(compose_config([f"task={task}", "device=raspberrypi4", *options.overrides])).problem
        report[task] = measure(problem, options.plans)
        for power, found in report[task].items():
            shown = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
            print(f"{task:20} power {power}  {shown}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
