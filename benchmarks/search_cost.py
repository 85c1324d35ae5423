"""Where the time of a search goes: network, bank, profile, evaluations, the agent itself.

    python benchmarks/search_cost.py [--task cifar10_resnet20] [--budget 300] [--json FILE] [OVERRIDE ...]

Everything starts from an empty cache, as in a fresh installation. Target: 300 evaluations of ResNet-20 with 1,000
search images in less than six minutes, bank included. The profile (operators and whole networks) is measured once for a
machine and a search space, and remembered.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from composing import compose_config
from espalier.agents.searcher import Searcher
from espalier.commands.building import build, build_device, build_task, build_techniques
from espalier.commands.search import prepare
from espalier.hw_models.machine import cpu_model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="cifar10_resnet20")
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ESPALIER_CACHE"] = cache
        seconds = measure([f"task={options.task}", *options.overrides], options.budget)
    for name, value in seconds.items():
        print(f"{name:40} {value:8.1f}")
    if options.json:
        facts = {"cpu": cpu_model(), "torch": torch.__version__, "task": options.task, "budget": options.budget}
        options.json.write_text(json.dumps({**facts, "seconds": seconds}, indent=2) + "\n")


def measure(overrides: list[str], budget: int) -> dict[str, float]:
    """Seconds of each part, and their sum."""
    config = compose_config(overrides)
    started = time.perf_counter()
    build_techniques(config)
    build_device(config)
    build_task(config)
    read = time.perf_counter()
    # Reads or trains the network again from the cache; what takes time is the bank, then the profile.
    prepare(compose_config([*overrides, "device=raspberrypi4"]))
    built = time.perf_counter()
    prepared = prepare(config)
    ready = time.perf_counter()
    agent: Searcher = build(config["agent"])
    archive = list(agent.search(prepared.problem, budget))
    over = time.perf_counter()
    evaluating = sum(evaluation.seconds for evaluation in archive if not evaluation.repeated)
    return {
        "data, and network if trained": read - started,
        "bank": built - read,
        "profile of the machine, once": ready - built,
        f"{len(archive)} evaluations": evaluating,
        "the agent itself, and costs": over - ready - evaluating,
        "together": over - started,
        "together, the machine being known": over - started - (ready - built),
        "milliseconds an evaluation": 1e3 * evaluating / max(1, len(archive)),
    }


if __name__ == "__main__":
    main()
