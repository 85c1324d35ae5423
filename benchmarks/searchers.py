"""The benchmark of searchers: every agent on every task and demand, over several seeds.

    python benchmarks/searchers.py [--tasks digits_int8,fashion_lenet5] [--demands energy,tight,accuracy]
        [--agents dyna,tpe,...] [--budget 200] [--seeds 10] [--json FILE] [--plots FOLDER] [AGENT:K=V,K=V ...]

A task is the name of a table of `benchmarks/tabular.py`, whose optimum and front are known, or that of any task of
`espalier search` ("real"), whose evaluations are made and remembered. An agent can be given several times with
overrides, such as `dyna:planner@agent.planner=random`, which is how the ablations are made.

* Regret: (R* - R) / (R* - median reward of all plans), R the best reward of the unique plans evaluated so far, R* that
  of the best plan there is. "At least 99 % of the optimum" means a regret of at most .01. On real tasks, whose R* is
  not known, R itself is shown.
* Hypervolume ratio: area dominated in the plane of accuracy (from 0) and one cost (up to the original's), against that
  of the true front; on real tasks against that of all agents' plans together. The cost is the demand's bounded one,
  else the one of most weight.
"""

import argparse
import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composing import compose_config
from espalier.agents.dyna.front import hypervolume
from espalier.commands.building import build, build_device
from espalier.commands.catalogue import options as known_options
from espalier.commands.search import prepare
from espalier.envs.problem import Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.evaluation.demand import Demand, Weights
from espalier.evaluation.metrics import Metrics
from espalier.hw_models.machine import cpu_model
from espalier.testing.tabular import TabularEvaluator
from numpy.typing import NDArray
from plots import draw
from tabular import REAL_TASKS, TASKS, known_table

_CHECKPOINTS = (25, 50, 100, 200, 300)

#: One is no search of few evaluations, the others need files: `benchmarks/transfer.py` compares these.
_NOT_COMPARED = ("exhaustive", "lookup", "universal", "universal_dyna", "universal_training")

#: A budget of latency as a share of the original's.
_TIGHT = 0.36

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A problem, and what is known of it.

    Attributes:
        problem: What is solved.
        cost: The cost whose front is looked at.
        best: The highest reward there is; None where nobody knows.
        median: The median reward of all plans.
        area: Hypervolume of the true front; None where nobody knows.
    """

    problem: Problem
    cost: str
    best: float | None = None
    median: float = 0.0
    area: float | None = None

    def curve(self, rewards: Floats) -> Floats:
        """What is shown of the best rewards so far: the regret, or themselves."""
        return rewards if self.best is None else (self.best - rewards) / (self.best - self.median)


def demands(original: Metrics) -> dict[str, tuple[Demand, str]]:
    """Name -> demand, and the cost of its front."""
    limit = _TIGHT * original.cost("latency_ms")
    return {
        "energy": (Demand(_weights(0.45, energy=0.55), None), "energy_mj"),
        "tight": (Demand(_weights(0.6, latency=0.4), None, latency_ms=limit), "latency_ms"),
        "accuracy": (Demand(_weights(0.8, energy=0.2), None), "energy_mj"),
        "storage": (Demand(_weights(0.5, latency=0.25, storage=0.25)), "storage_bytes"),
    }


def _weights(accuracy: float, latency: float = 0.0, energy: float = 0.0, storage: float = 0.0) -> Weights:
    return Weights(accuracy, latency, energy, storage)


def cases(task: str, names: list[str]) -> dict[str, Case]:
    """The problems of a task, one per demand."""
    return _tabular_cases(task, names) if task in TASKS else _real_cases(task, names)


def _tabular_cases(task: str, names: list[str]) -> dict[str, Case]:
    prepared, table = known_table(task)
    device, bank, reward = build_device(compose_config(TASKS[task])), prepared.problem.bank, ConstrainedReward()
    made = {}
    for name, (demand, cost) in demands(table.original).items():
        if name in names:
            problem = Problem(bank, TabularEvaluator(bank.space, table), reward, demand, device)
            metrics = [table.metrics(row) for row in range(len(table))]
            rewards = np.array([problem.judge(one) for one in metrics])
            shares = np.array([one.cost(cost) for one in metrics]) / problem.baseline.cost(cost)
            area = hypervolume(table.accuracies, shares)
            made[name] = Case(problem, cost, float(rewards.max()), float(np.median(rewards)), area)
    return made


def _real_cases(task: str, names: list[str]) -> dict[str, Case]:
    config = compose_config(REAL_TASKS.get(task, [f"task={task}"]))
    first = prepare(config).problem
    device = build_device(config)
    return {
        name: Case(Problem(first.bank, first.evaluator, ConstrainedReward(), demand, device), cost)
        for name, (demand, cost) in demands(first.baseline).items()
        if name in names
    }


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        rewards: Of the unique plans in order of evaluation.
        accuracies: Of the same.
        shares: Of the same, their cost as a share of the original's.
        own_ms: The agent's own milliseconds per evaluation.
    """

    rewards: Floats
    accuracies: Floats
    shares: Floats
    own_ms: float

    def best(self, count: int) -> float:
        """The best reward of the first `count` plans."""
        return float(self.rewards[:count].max())

    def area(self, count: int) -> float:
        """The hypervolume of the first `count` plans."""
        return hypervolume(self.accuracies[:count], self.shares[:count])


@cache
def agent_node(agent: str) -> dict[str, Any]:
    """The configuration of an agent, given as name or as name:override,override."""
    name, _, overrides = agent.partition(":")
    node: dict[str, Any] = compose_config([f"agent={name}", *filter(None, overrides.split(","))])["agent"]
    return node


def run(case: Case, agent: str, seed: int, budget: int) -> Run:
    """One search of an agent."""
    searcher = build({**agent_node(agent), "seed": seed})
    started = time.perf_counter()
    evaluations = list(searcher.search(case.problem, budget))
    seconds = time.perf_counter() - started - sum(e.seconds for e in evaluations if not e.repeated)
    original = case.problem.baseline.cost(case.cost)
    return Run(
        np.array([e.reward for e in evaluations]),
        np.array([e.metrics.accuracy for e in evaluations]),
        np.array([e.metrics.cost(case.cost) for e in evaluations]) / original,
        1000 * seconds / len(evaluations),
    )


def interval(values: Floats) -> list[float]:
    """Median over the first axis and the 95 % bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(values[rng.integers(len(values), size=(2000, len(values)))], axis=1)
    return [float(np.median(values)), *(float(bound) for bound in np.percentile(medians, [2.5, 97.5]))]


def row(case: Case, agent: str, runs: list[Run], checkpoints: list[int], union: float | None) -> dict[str, Any]:
    """What is reported of an agent on a case."""
    curves = np.array([case.curve(np.array([one.best(count) for count in checkpoints])) for one in runs])
    whole = case.area or union
    areas = np.array([[one.area(count) for count in checkpoints] for one in runs]) / (whole or 1.0)
    return {
        "agent": agent,
        "regret" if case.best is not None else "reward": [interval(column) for column in curves.T],
        "at_99_percent": None if case.best is None else (curves <= 0.01).mean(0).tolist(),
        "hypervolume": [interval(column) for column in areas.T],
        "own_ms": float(np.median([one.own_ms for one in runs])),
        "curves": [case.curve(np.maximum.accumulate(one.rewards)).round(6).tolist() for one in runs],
    }


def union_area(runs: dict[str, list[Run]]) -> float:
    """The hypervolume of everything that was evaluated."""
    every = [one for several in runs.values() for one in several]
    return hypervolume(*(np.concatenate([getattr(one, name) for one in every]) for name in ("accuracies", "shares")))


def show(line: dict[str, Any], checkpoints: list[int]) -> str:
    """One line of text."""
    kind = "regret" if "regret" in line else "reward"
    parts = [f"{c}: {m:.3f} [{a:.3f}, {b:.3f}]" for c, (m, a, b) in zip(checkpoints, line[kind], strict=True)]
    shares = "/".join(f"{share:.1f}" for share in line["at_99_percent"] or [])
    volumes = "/".join(f"{volume[0]:.3f}" for volume in line["hypervolume"])
    return f"  {line['agent']:44} {kind} {'  '.join(parts)}  99% {shares}  hv {volumes}  {line['own_ms']:.1f} ms"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--demands", default="energy,tight,accuracy")
    default = " ".join(name for name in known_options("agent") if name not in _NOT_COMPARED)
    parser.add_argument("--agents", default=default)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    checkpoints = [count for count in _CHECKPOINTS if count < given.budget] + [given.budget]
    facts = {"cpu": cpu_model(), "torch": torch.__version__, "seeds": given.seeds, "checkpoints": checkpoints}
    report: dict[str, Any] = {**facts, "cases": []}
    for task in given.tasks.split(","):
        for demand, case in cases(task, given.demands.split(",")).items():
            runs: dict[str, list[Run]] = {}
            print(f"{task}, {demand}", flush=True)
            for agent in given.agents.split():
                runs[agent] = [run(case, agent, seed, given.budget) for seed in range(given.seeds)]
                print(show(row(case, agent, runs[agent], checkpoints, None), checkpoints), flush=True)
            rows = [row(case, agent, several, checkpoints, union_area(runs)) for agent, several in runs.items()]
            report["cases"].append({"task": task, "demand": demand, "cost": case.cost, "rows": rows})
            if given.json:
                given.json.write_text(json.dumps(report) + "\n")
    if given.plots:
        draw(report, given.plots)


if __name__ == "__main__":
    main()
