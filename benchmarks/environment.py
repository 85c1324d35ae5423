"""What the environment itself costs: steps, assembly, evaluation.

    python benchmarks/environment.py [--quick] [--json FILE]

Targets: at least 2,000 steps a second without evaluation; a ResNet-20 plan assembled in less than 20 ms; an evaluation
at most 15 % slower than plain inference over the search split.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from composing import compose_config
from espalier.commands.search import Prepared, prepare
from espalier.compression.assembly import assemble
from espalier.compression.bank_builder import build_bank
from espalier.compression.survey import survey
from espalier.compression.techniques import ChannelPruning, DepthwiseSeparable, Fire, Int8, SpatialSvd, Tucker2
from espalier.envs.layer_wise import LayerWiseEnv
from espalier.envs.problem import Problem
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.hw_models.machine import cpu_model, usable_cpus
from espalier.tasks.accuracy import accuracy
from espalier.tasks.models.resnet import CifarResNet


def digits() -> Prepared:
    """The default task on a device that needs no profile."""
    return prepare(compose_config(["device=raspberrypi4"]))


def steps_per_second(problem: Problem, seconds: float) -> float:
    """Masked random steps over all sites but the last, whose step would evaluate."""
    env = LayerWiseEnv(problem)
    rng = np.random.default_rng(0)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        env.reset()
        for _ in range(env.episode_length - 1):
            env.step(np.int64(rng.choice(np.flatnonzero(env.action_masks()))))
            steps += 1
    return steps / (time.perf_counter() - started)


def assembly_ms(plans: int) -> list[float]:
    """Milliseconds of assembling random ResNet-20 plans from a bank."""
    torch.manual_seed(0)
    model = CifarResNet(20).eval().requires_grad_(False)
    inputs = torch.randn(32, 3, 32, 32)
    techniques = (SpatialSvd(), Tucker2(), DepthwiseSeparable(), Fire(), ChannelPruning(), Int8())
    surveyed = survey(model, inputs[:1], {technique.name: technique for technique in techniques})
    bank = build_bank(model, surveyed.space, inputs, "benchmark")
    rng = np.random.default_rng(0)
    times: list[float] = []
    for _ in range(plans):
        plan = surveyed.space.plan(surveyed.space.random(rng))
        started = time.perf_counter()
        assemble(model, plan, bank)
        times.append(1e3 * (time.perf_counter() - started))
    return times


def evaluation_ratios(prepared: Prepared, plans: int, rounds: int) -> list[float]:
    """Per plan, the median over rounds of evaluation time over the time of the original's inference just before it."""
    task, problem = prepared.task, prepared.problem
    evaluator = LocalEvaluator(task, prepared.survey, problem.bank, prepared.evaluator.device)
    evaluator.evaluate([problem.space.keep_plan])
    rng = np.random.default_rng(0)
    one_change = [
        problem.space.plan([*[0] * p, 1, *[0] * (len(problem.space.sites) - p - 1)])
        for p in (0, len(problem.space.sites) - 1)
    ]
    drawn = [problem.space.plan(problem.space.random(rng)) for _ in range(plans)]
    ratios: list[float] = []
    for plan in [problem.space.keep_plan, *one_change, *drawn]:
        pairs = []
        for _ in range(rounds):
            started = time.perf_counter()
            accuracy(task.model, task.search)
            between = time.perf_counter()
            evaluator.evaluate([plan])
            pairs.append((time.perf_counter() - between) / (between - started))
        ratios.append(median(pairs))
    return ratios


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    prepared = digits()
    steps = steps_per_second(prepared.problem, 1 if options.quick else 5)
    assembly = assembly_ms(20 if options.quick else 200)
    ratios = evaluation_ratios(prepared, 4 if options.quick else 20, 3 if options.quick else 7)
    figures: dict[str, Any] = {
        "steps_per_second": steps,
        "assembly_resnet20_ms_median": median(assembly),
        "assembly_resnet20_ms_max": max(assembly),
        "evaluation_over_inference_median": median(ratios),
        "evaluation_over_inference_keep": ratios[0],
        "evaluation_over_inference_max": max(ratios),
        "cpu": cpu_model(),
        "cpus": usable_cpus(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }
    for name, value in figures.items():
        print(f"{name:36} {value:.4g}" if isinstance(value, float) else f"{name:36} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
