"""Does the accuracy that a search sees rank plans as the accuracy after fine-tuning does?

    python benchmarks/proxy.py [--tasks fashion_lenet5,...] [--plans 30] [--evaluations 150] [--epochs 3] [--json FILE]
                               [OVERRIDE ...]

A search and as many random plans fill an archive; plans spread over its accuracies and costs (without what is hopeless:
under half of the original's accuracy) are refitted and fine-tuned like a winner, and judged on the test split, which
no search sees. Printed are Spearman's rank correlations with the searched accuracy: over all of them, and within groups
of nearly equal cost (plans sorted by multiply-accumulates and divided into five groups; the mean over the groups,
weighted by size), each with a 95 % bootstrap interval; the same for the accuracy after the refit, for the negative
sum of the choices' errors, and for the fine-tuned networks' own accuracy on the search split: two splits of a few
hundred examples do not rank the same networks alike, and no proxy can be expected to do better than that.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composing import compose_config
from espalier.agents.random_search import RandomSearch
from espalier.agents.searcher import Searcher
from espalier.commands.building import build
from espalier.commands.search import Prepared, prepare
from espalier.compression.layers import trainable
from espalier.envs.problem import Problem
from espalier.evaluation.archive import Evaluation
from espalier.finish.recipe import FinishRecipe
from espalier.finish.refitting import refitted_candidates
from espalier.graph.layers import executable
from espalier.tasks.accuracy import accuracy
from espalier.tasks.distillation import distil
from numpy.typing import NDArray
from scipy.stats import spearmanr

_GROUPS = 5

Floats = NDArray[np.float64]


def spread(evaluations: list[Evaluation], floor: float, count: int) -> list[Evaluation]:
    """Plans above a floor of accuracy that cover the plane of accuracy and logarithmic arithmetic.

    Beginning with the most accurate one, always that which is farthest from those taken already, each axis divided by
    its range.
    """
    unique = {e.plan.hash: e for e in evaluations if e.metrics.accuracy > floor}
    able = sorted(unique.values(), key=lambda e: -e.metrics.accuracy)
    points = np.array([(e.metrics.accuracy, np.log(e.metrics.cost("macs"))) for e in able])
    points /= np.ptp(points, axis=0) + 1e-12
    taken = [0]
    distances = np.linalg.norm(points - points[0], axis=1)
    while len(taken) < min(count, len(able)) and distances.max() > 0:
        taken.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(points - points[taken[-1]], axis=1))
    return [able[index] for index in taken]


def fine_tuned(
    prepared: Prepared, evaluation: Evaluation, recipe: FinishRecipe, epochs: int
) -> tuple[float, float, float]:
    """Accuracy on the search split after the refit, and on the search and the test split after fine-tuning."""
    task = prepared.task
    networks = prepared.networks(recipe.refit_images)
    (candidate,) = refitted_candidates(networks, [evaluation])
    student = copy.deepcopy(candidate.network)
    gentle = type(recipe.distillation)(**{**vars(recipe.distillation), "epochs": epochs})
    with trainable(student):
        distil(student, task.model, task.fit, task.search, gentle, seed=0)
    network = executable(student.eval())
    return candidate.accuracy, accuracy(network, task.search), accuracy(network, task.open_test_split())


def correlations(seen: Floats, reached: Floats, macs: Floats) -> dict[str, tuple[float, float, float]]:
    """Spearman over all and within groups of equal cost, each with its bootstrap interval."""
    rng = np.random.default_rng(0)
    resamples = [rng.integers(len(seen), size=len(seen)) for _ in range(500)]
    found = {}
    for name, measure in (("all", _over_all), ("equal cost", _within_groups)):
        drawn = [measure(seen[rows], reached[rows], macs[rows]) for rows in resamples]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        found[name] = (measure(seen, reached, macs), float(low), float(high))
    return found


def _over_all(seen: Floats, reached: Floats, _: Floats) -> float:
    return _spearman(seen, reached)


def _within_groups(seen: Floats, reached: Floats, macs: Floats) -> float:
    groups = [rows for rows in np.array_split(np.argsort(macs, kind="stable"), _GROUPS) if len(rows) > 2]
    values = np.array([_spearman(seen[rows], reached[rows]) for rows in groups])
    known = ~np.isnan(values)
    if not known.any():
        return float("nan")
    return float(np.average(values[known], weights=[len(r) for r, k in zip(groups, known, strict=True) if k]))


def _spearman(first: Floats, second: Floats) -> float:
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def _summed_error(problem: Problem, evaluation: Evaluation) -> float:
    return float(sum(error**1.5 for error in problem.errors(problem.space.indices(evaluation.plan))))


def run(task: str, options: argparse.Namespace) -> dict[str, Any]:
    """One task."""
    config = compose_config([f"task={task}", "agent=dyna", *options.overrides])
    prepared = prepare(config)
    agent: Searcher = build(config["agent"])
    problem = prepared.problem
    archive = list(agent.search(problem, options.evaluations))
    archive += [
        e for e in RandomSearch().search(problem, options.evaluations) if e.plan not in {k.plan for k in archive}
    ]
    chosen = spread(archive, 0.5 * problem.baseline.accuracy, options.plans)
    recipe: FinishRecipe = build(config["finish"])
    ends = [fine_tuned(prepared, evaluation, recipe, options.epochs) for evaluation in chosen]
    refitted, tuned, reached = np.array(ends).T
    macs = np.array([e.metrics.cost("macs") for e in chosen])
    proxies = {
        "searched accuracy": np.array([e.metrics.accuracy for e in chosen]),
        "refitted accuracy": refitted,
        "- sum of errors^1.5": np.array([-_summed_error(problem, e) for e in chosen]),
        "multiply-accumulates": macs,
        "fine-tuned, search split": tuned,
    }
    table = {name: correlations(values, reached, macs) for name, values in proxies.items()}
    for name, found in table.items():
        shown = "  ".join(f"{where} {m:.2f} [{low:.2f}, {high:.2f}]" for where, (m, low, high) in found.items())
        print(f"{task:20} {len(chosen)} plans  {name:24} {shown}", flush=True)
    plans = [
        {
            "searched": e.metrics.accuracy,
            "refitted": r,
            "fine_tuned_search": s,
            "fine_tuned": t,
            "macs": e.metrics.cost("macs"),
            "plan": {name: str(choice) for name, choice in e.plan},
        }
        for e, (r, s, t) in zip(chosen, ends, strict=True)
    ]
    return {"task": task, "plans": plans, "correlations": table, "torch": torch.__version__}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="fashion_lenet5,spoken_digits_gru,cifar10_resnet20")
    parser.add_argument("--plans", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    rows = []
    for task in options.tasks.split(","):
        rows.append(run(task, options))
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
