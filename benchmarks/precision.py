"""What counting right answers in bfloat16 changes: how many answers, how many are right, how long it takes.

    python benchmarks/precision.py [--tasks cifar10_resnet20 ...] [--plans 20] [--json FILE] [OVERRIDE ...]

The original and plans of the search space, from few to all of their layers changed, answer the search split in float32
and in bfloat16, in turns, on one thread; times are the least of three.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composing import compose_config
from espalier.commands.search import prepare
from espalier.compression.spread import spread_plans
from espalier.graph.layers import executable
from espalier.hw_models.machine import cpu_model
from espalier.tasks.accuracy import right_answers
from espalier.tasks.data.split import Split
from espalier.tasks.precision import Precision, computing_in
from torch import nn

_TASKS = ("digits_vgg", "fashion_lenet5", "cifar10_resnet20", "cifar10_resnet56")
_REPEATS = 3
_SEED = 0


def answered(network: nn.Module, split: Split, precision: Precision) -> tuple[np.ndarray[Any, Any], float]:
    """Whether each image is answered right, and the seconds it took."""
    started = time.perf_counter()
    with computing_in(precision):
        right = right_answers(network, split).numpy()
    return right, time.perf_counter() - started


def compared(network: nn.Module, split: Split) -> dict[str, float]:
    """One network in both precisions."""
    turns = [[answered(network, split, name) for name in ("float32", "bfloat16")] for _ in range(_REPEATS)]
    exact, rounded = (right for right, _ in turns[0])
    seconds = np.array([[taken for _, taken in turn] for turn in turns]).min(0)
    return {
        "accuracy": float(exact.mean()),
        "fewer_or_more_right": float(rounded.mean() - exact.mean()),
        "right_in_one_only": float((exact != rounded).mean()),
        "float32_seconds": float(seconds[0]),
        "bfloat16_seconds": float(seconds[1]),
    }


def measured(task: str, plans: int, overrides: list[str]) -> list[dict[str, float]]:
    """The original, then plans of a task."""
    prepared = prepare(compose_config([f"task={task}", "device=raspberrypi4", "tracker=none", *overrides]))
    space = prepared.problem.space
    chosen = [space.keep_plan, *spread_plans(space, plans, _SEED)]
    return [compared(executable(prepared.evaluator.network(plan)), prepared.task.search) for plan in chosen]


def shown(task: str, rows: list[dict[str, float]]) -> str:
    """One line."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    points, other = 100 * columns["fewer_or_more_right"], 100 * columns["right_in_one_only"]
    ratios = columns["bfloat16_seconds"] / columns["float32_seconds"]
    return (
        f"{task:<18} accuracy {points.mean():+.2f} points on average, {points.min():+.2f} to {points.max():+.2f}; "
        f"right in one only {other.mean():.2f} %, at most {other.max():.2f}; time {np.median(ratios):.2f}x, "
        f"{ratios.min():.2f} to {ratios.max():.2f}, the original {ratios[0]:.2f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(_TASKS))
    parser.add_argument("--plans", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[dict[str, float]]] = {}
    for task in options.tasks:
        results[task] = measured(task, options.plans, options.overrides)
        print(shown(task, results[task]), flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"cpu": cpu_model(), "torch": torch.__version__, **results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
