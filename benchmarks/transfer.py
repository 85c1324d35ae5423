"""One policy for many demands: what it is worth on demands, devices and networks that it never saw.

    python benchmarks/transfer.py [--families digits,lenet5] [--demands 10] [--ablation] [--json FILE]

Per family a few networks get 150 evaluations each, spread over the space. From these an accuracy model is learnt and
one policy is trained on random demands and five modelled devices. Then, without further training:

* demand: unseen demands on a network and a device of the training,
* device: unseen demands on three devices that took no part in it,
* model: unseen demands on a network that took no part in it, on a device that did.

Every searcher evaluates the plan that keeps everything first, which is not counted here. *Gain* is
(R - R_keep) / (R_scratch - R_keep), with R_scratch the best reward of a Dyna search from scratch of 200 evaluations and
another seed. Shown are medians over the cases with 95 % bootstrap intervals, and the evaluations needed for a gain
of .95. Look-up judges the training network's evaluated plans anew, on an unseen network with the accuracy each lost.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composing import compose_config
from espalier.agents.dyna.codes import WalkTables
from espalier.agents.dyna.start import first_walks
from espalier.agents.universal.demands import DemandRecipe
from espalier.agents.universal.learning import on_device
from espalier.agents.universal.policy import UniversalPolicy
from espalier.agents.universal.training import TrainingRecipe, train_policy
from espalier.agents.universal.world import World, learnt_accuracy
from espalier.commands.building import build
from espalier.commands.search import prepare
from espalier.envs.problem import Problem
from espalier.errors import DemandError
from espalier.evaluation.archive import Archive
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.hw_models.machine import cpu_model
from espalier.hw_models.roofline import Roofline
from numpy.typing import NDArray
from searchers import interval
from tabular import TASKS

#: Family -> the networks that are learnt from, the first of them tested on, and the unseen one.
FAMILIES: dict[str, tuple[list[str], str]] = {
    "digits": (["digits_int8", "digits_narrow"], "digits_wide"),
    "lenet5": (["mnist_lenet5"], "fashion_lenet5"),
}

_TASKS: dict[str, list[str]] = {
    "digits_int8": TASKS["digits_int8"],
    "digits_narrow": [*TASKS["digits_int8"], "model.widths=[12,16,24]"],
    "digits_wide": [*TASKS["digits_int8"], "model.widths=[24,32,48]"],
    "mnist_lenet5": ["task=mnist_lenet5", *TASKS["fashion_lenet5"][1:]],
    "fashion_lenet5": TASKS["fashion_lenet5"],
}


def _device(name: str, *figures: float) -> Roofline:
    return Roofline(name, *figures)


#: GFLOP/s, GB/s, microseconds per operator, speed-up of 8-bit integers.
TRAINED = [
    _device("base", 2, 1, 0.2, 2),
    _device("arithmetic", 1, 8, 0.5, 4),
    _device("memory", 50, 1, 0.2, 1),
    _device("overhead", 20, 5, 10, 2),
    _device("balanced", 8, 2, 1, 3),
]
UNSEEN = [_device("slow_integers", 4, 2, 0.5, 0.8), _device("tiny", 0.3, 0.5, 0.1, 6), _device("phone", 30, 12, 4, 2.5)]

#: Plans of each network of the training.
_LEARNT_FROM = 150

_REFERENCE, _FOLLOWED = 200, 50
_CHECKPOINTS = (1, 5, 20)
_REACH = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Learnt:
    """A network of the training.

    Attributes:
        problem: On the first device.
        archive: What was evaluated of it.
        journal: The same as a file, for look-up.
    """

    problem: Problem
    archive: Archive
    journal: Path


def _problem(name: str) -> Problem:
    return prepare(compose_config(_TASKS[name])).problem


def learn(name: str, folder: Path) -> Learnt:
    """Evaluate plans spread over a network's space."""
    problem = on_device(_problem(name), TRAINED[0])
    problem.begin(_LEARNT_FROM)
    for walk in first_walks(WalkTables(problem.bank), _LEARNT_FROM, True, np.random.default_rng(0)).tolist():
        problem.evaluate_walk(walk)
    journal = folder / f"{name}.jsonl"
    journal.write_text("".join(json.dumps(evaluation.to_dict()) + "\n" for evaluation in problem.archive))
    return Learnt(problem, problem.archive, journal)


def train(learnt: Mapping[str, Learnt], recipe: TrainingRecipe) -> UniversalPolicy:
    """One policy for all networks and the devices of the training."""
    rng = np.random.default_rng(0)
    worlds = {}
    for name, network in learnt.items():
        accuracy = learnt_accuracy(network.problem, network.archive, rng)
        for device in TRAINED:
            worlds[f"{name} on {device.name}"] = World(on_device(network.problem, device), accuracy, rng)
    return train_policy(worlds, recipe)


def cases(problem: Problem, devices: list[Roofline], count: int, seed: int) -> list[tuple[str, Problem]]:
    """Problems with drawn demands that some plan can meet, going round the devices."""
    rng = np.random.default_rng(seed)
    recipe, made = DemandRecipe(), []
    assert isinstance(problem.evaluator, LocalEvaluator)
    while len(made) < count:
        device = devices[len(made) % len(devices)]
        here = on_device(problem, device)
        evaluator = here.evaluator
        assert isinstance(evaluator, LocalEvaluator)
        demand = recipe.draw(rng, here.baseline)
        asked = Problem(problem.bank, evaluator, problem.reward, demand, device, evaluator.bounds())
        try:
            asked.check_feasible()
        except DemandError:
            continue
        made.append((device.name, asked))
    return made


def agents(policies: Mapping[str, Path], journal: Path) -> dict[str, dict[str, Any]]:
    """Name -> node of every searcher that is compared."""
    nodes = {f"{name} policy": _node("universal", f"agent.policy={file}") for name, file in policies.items()}
    last = list(policies.values())[-1]
    planner = "planner@agent.planner=evolution"
    nodes["policy, then dyna"] = _node("universal_dyna", planner, f"agent.policy={last}")
    nodes["look-up"] = _node("lookup", f"agent.journal={journal}")
    nodes["dyna from scratch"] = _node("dyna", planner)
    nodes["random"] = _node("random")
    return nodes


def _node(agent: str, *overrides: str) -> dict[str, Any]:
    node: dict[str, Any] = compose_config([f"agent={agent}", *overrides])["agent"]
    return node


def gains(node: dict[str, Any], problem: Problem, keep: float, reference: float) -> Floats:
    """The gain after each evaluation beside the first, shape (_FOLLOWED,)."""
    rewards = [e.reward for e in build({**node, "seed": 0}).search(problem, _FOLLOWED + 1)][1:]
    best = np.maximum.accumulate([*rewards, *[-np.inf] * (_FOLLOWED - len(rewards))])
    return (np.maximum(best, keep) - keep) / max(1e-9, reference - keep)


def compare(problems: list[tuple[str, Problem]], nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All searchers on all cases."""
    curves: dict[str, list[Floats]] = {name: [] for name in nodes}
    seconds = dict.fromkeys(nodes, 0.0)
    scratch = _node("dyna", "planner@agent.planner=evolution")
    for _, problem in problems:
        archive = build({**scratch, "seed": 100}).search(problem, _REFERENCE)
        keep, reference = next(iter(archive)).reward, archive.best()[0].reward
        for name, node in nodes.items():
            started = time.perf_counter()
            curves[name].append(gains(node, problem, keep, reference))
            seconds[name] += time.perf_counter() - started
    rows = {
        name: _row(np.array(several)) | {"seconds": seconds[name] / len(several)} for name, several in curves.items()
    }
    return {"cases": len(problems), "devices": sorted({device for device, _ in problems}), "rows": rows}


def _row(curves: Floats) -> dict[str, Any]:
    reached = curves >= _REACH
    needed = np.where(reached.any(1), reached.argmax(1) + 1, _FOLLOWED + 1).astype(float)
    return {
        "gain": {str(count): interval(curves[:, count - 1]) for count in _CHECKPOINTS},
        "needed": interval(needed),
        "reached_share": float(reached.any(1).mean()),
        "curves": curves.round(4).tolist(),
    }


def show(test: str, result: dict[str, Any]) -> None:
    """A table of Markdown."""
    print(f"\n**{test}** ({result['cases']} cases; {', '.join(result['devices'])})\n")
    print("| | gain at 1 | at 5 | at 20 | evaluations to 95 % | within 50 |\n|---|---|---|---|---|---|")
    for name, row in result["rows"].items():
        cells = [f"{m:.2f} [{a:.2f}, {b:.2f}]" for m, a, b in row["gain"].values()]
        shown = [f"> {_FOLLOWED}" if value > _FOLLOWED else f"{value:g}" for value in row["needed"]]
        print(f"| {name} | {' | '.join(cells)} | {shown[0]} [{shown[1]}, {shown[2]}] | {row['reached_share']:.2f} |")


def run_family(name: str, count: int, recipes: dict[str, TrainingRecipe], folder: Path) -> dict[str, Any]:
    """Train, then test in the three ways."""
    trained_on, unseen = FAMILIES[name]
    learnt = {network: learn(network, folder) for network in trained_on}
    policies: dict[str, Path] = {}
    facts: dict[str, Any] = {}
    for kind, recipe in recipes.items():
        policies[kind] = folder / f"{name}_{kind}.safetensors"
        started = time.perf_counter()
        train(learnt, recipe).save(policies[kind])
        facts[f"{kind}_training_seconds"] = time.perf_counter() - started
    first = learnt[trained_on[0]]
    nodes = agents(policies, first.journal)
    tests = {
        "demand": (first.problem, TRAINED[:1]),
        "device": (first.problem, UNSEEN),
        "model": (on_device(_problem(unseen), TRAINED[0]), TRAINED[:1]),
    }
    for seed, (test, (problem, devices)) in enumerate(tests.items(), 1000):
        facts[test] = compare(cases(problem, devices, max(count, 3 * (len(devices) > 1)), seed), nodes)
        show(f"{name}: unseen {test}", facts[test])
    return facts


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--demands", type=int, default=10)
    parser.add_argument("--demonstrations", type=int, default=720)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--ablation", action="store_true", help="also a policy that imitates only")
    parser.add_argument("--policies", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    hyperparameters = compose_config(["agent=universal_training"])["agent"]["recipe"]["hyperparameters"]
    recipe = TrainingRecipe(demonstrations=given.demonstrations, updates=given.updates, hyperparameters=hyperparameters)
    recipes = {"reinforced": recipe}
    if given.ablation:
        recipes = {"imitating": TrainingRecipe(**{**vars(recipe), "updates": 0}), **recipes}
    report: dict[str, Any] = {"cpu": cpu_model(), "torch": torch.__version__, "families": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.policies or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.families.split(","):
            report["families"][name] = run_family(name, given.demands, recipes, folder)
            if given.json:
                given.json.write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
