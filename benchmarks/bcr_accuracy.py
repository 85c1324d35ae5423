"""What block column-row (BCR) pruning leaves of a network's accuracy, and which finish leaves most.

    python benchmarks/bcr_accuracy.py [--task TASK] [--rates "*=8"] [--methods masked,admm] [--json FILE] [OVERRIDE ...]

Every open site is pruned at the rate of the last pattern that its name matches. The test split is opened once, when all
networks are made: the original, the plan after its closed-form fit, and what `pruning=METHOD` and the fine-tuning that
ends every search make of it. Overrides of `pruning.` reach the methods that have such an option.

To choose settings without the test split, give `--closed` and `--folder FOLDER`, compare accuracies and losses on the
search split, and repeat the call of the choice with `--again` in the place of `--closed`: it reads what FOLDER has.
"""

import argparse
import copy
import fnmatch
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from composing import compose_config
from espalier.commands.building import build
from espalier.commands.search import Prepared, prepare
from espalier.compression.choice import KEEP, Choice
from espalier.compression.layers import BlockSparseCodec, trainable
from espalier.compression.plan import Plan
from espalier.compression.storage import load_network, save_network
from espalier.finish.plan_networks import PlanNetworks
from espalier.graph.layers import executable
from espalier.hw_models.machine import cpu_model
from espalier.tasks.accuracy import accuracy
from espalier.tasks.data.split import Split
from espalier.tasks.distillation import distil
from torch import nn
from torch.nn import functional

BATCH = 128


@dataclass
class Row:
    """One network.

    Attributes:
        name: What made it.
        search_accuracy: On the search split.
        search_loss: Mean cross-entropy on the search split, which tells more than a few hundred right or wrong answers.
        test_accuracy: On the test split; None where that stayed closed.
        network_rate: Weights of the original over those that are left, in the whole network.
        pruned_rate: The same in the pruned tensors alone.
        distances: See `PruningReport`.
        seconds: How long it took.
    """

    name: str
    search_accuracy: float
    search_loss: float
    test_accuracy: float | None = None
    network_rate: float = 1.0
    pruned_rate: float = 1.0
    distances: tuple[float, ...] = ()
    seconds: float = 0.0


def block_plan(prepared: Prepared, rates: Mapping[str, float]) -> Plan:
    """Block column-row pruning at each open site."""
    space = prepared.problem.space
    chosen: dict[str, Choice] = {}
    for site, choices in zip(space.sites, space.choices, strict=True):
        rate = [value for pattern, value in rates.items() if fnmatch.fnmatchcase(site.name, pattern)][-1:]
        wanted = [choice for choice in choices if choice != KEEP and choice["rate"] in rate]
        chosen[site.name] = wanted[0] if wanted else KEEP
    return Plan.of(chosen)


def rates_of(network: nn.Module, original: nn.Module) -> tuple[float, float]:
    """How many times fewer weights there are in the whole network, and in the pruned tensors."""
    codecs = [module for module in network.modules() if isinstance(module, BlockSparseCodec)]
    whole, kept = sum(codec.shape.numel() for codec in codecs), sum(codec.n_parameters for codec in codecs)
    total = sum(parameter.numel() for name, parameter in original.named_parameters() if "weight" in name)
    return total / (total - whole + kept), whole / kept if kept else 1.0


def finished(
    prepared: Prepared, networks: PlanNetworks, plan: Plan, config: Mapping[str, Any], seed: int
) -> tuple[nn.Module, tuple[float, ...]]:
    """The network that a search would deliver, and how far its weights were from sparse ones."""
    pruned = build(config["pruning"]).prune(networks, plan, seed)
    network, distances = (pruned[0], pruned[1].distances) if pruned else (networks.refitted(plan), ())
    network, task = copy.deepcopy(networks.folded(network)), prepared.task
    with trainable(network):
        distil(network, task.model, task.fit, task.search, build(config["finish"]["distillation"]), seed)
    return network.eval(), distances


def measure(options: argparse.Namespace, rates: Mapping[str, float]) -> list[tuple[Row, nn.Module]]:
    """All networks but their accuracy on the test split."""
    methods = options.methods.split(",")
    general = [f"task={options.task}", "device=raspberrypi4", "space=bcr"]
    general += [f"space.techniques.bcr_pruning.rates=[{','.join(map(str, sorted(set(rates.values()))))}]"]
    configs = {method: compose_config([*general, f"pruning={method}", *_of(method, options)]) for method in methods}
    prepared = prepare(configs[methods[0]])
    task, plan = prepared.task, block_plan(prepared, rates)
    networks = prepared.networks(configs[methods[0]]["finish"]["refit_images"])
    original = networks.folded(task.model)
    shown = {"original": original, "one-shot": networks.folded(networks.refitted(plan))}
    rows = [(_row(name, network, task, original), network) for name, network in shown.items()]
    for method in methods:
        started = time.perf_counter()
        network, distances = _made(prepared, networks, plan, method, configs[method], options)
        row = _row(method, network, task, original)
        row.distances, row.seconds = distances, time.perf_counter() - started
        rows.append((row, network))
        print(f"{method:12} search {100 * row.search_accuracy:.2f} %  {row.seconds:.0f} s", flush=True)
    if not options.closed:
        test = task.open_test_split()
        for row, network in rows:
            row.test_accuracy = accuracy(executable(network), test)
    return rows


def _made(
    prepared: Prepared,
    networks: PlanNetworks,
    plan: Plan,
    method: str,
    config: Mapping[str, Any],
    options: argparse.Namespace,
) -> tuple[nn.Module, tuple[float, ...]]:
    """The network of a method, written to the folder, or read from there."""
    model = prepared.task.model
    path = options.folder / f"{options.task}_{method}.safetensors" if options.folder else None
    if options.again:
        return load_network(path, model), ()
    network, distances = finished(prepared, networks, plan, config, options.seed)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_network(path, network, model)
    return network, distances


@torch.inference_mode()
def cross_entropy(network: nn.Module, split: Split) -> float:
    """Mean over a split."""
    parts = [functional.cross_entropy(network(x), y, reduction="sum") for x, y in split.batches(BATCH)]
    return float(torch.stack(parts).sum()) / len(split)


def _of(method: str, options: argparse.Namespace) -> list[str]:
    """The overrides that a method understands: masked has no approach, and only ADMM has a rho."""
    known = compose_config([f"pruning={method}"])["pruning"]
    paths = [override.partition("=")[0].split(".") for override in options.overrides]
    pairs = zip(paths, options.overrides, strict=True)
    return [override for path, override in pairs if path[0] != "pruning" or path[1] in known]


def _row(name: str, network: nn.Module, task: Any, original: nn.Module) -> Row:
    whole, pruned = rates_of(network, original)
    engine = executable(network)
    reached = accuracy(engine, task.search), cross_entropy(engine, task.search)
    return Row(name, *reached, network_rate=whole, pruned_rate=pruned)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="spoken_digits_gru")
    parser.add_argument("--rates", default="*=8", help="PATTERN=RATE,... the last pattern that matches counts")
    parser.add_argument("--methods", default="masked,admm,reweighted,gradual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="write the networks there")
    parser.add_argument("--closed", action="store_true", help="leave the test split closed")
    parser.add_argument("--again", action="store_true", help="read the networks from the folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    if options.again and not options.folder:
        parser.error("--again needs --folder")
    rates = {pattern: float(rate) for pattern, _, rate in (part.partition("=") for part in options.rates.split(","))}
    rows = [row for row, _ in measure(options, rates)]
    for row in rows:
        test = "closed" if row.test_accuracy is None else f"{100 * row.test_accuracy:.2f} %"
        print(
            f"{row.name:12} test {test:>8}  search {100 * row.search_accuracy:6.2f} %  "
            f"(loss {row.search_loss:.4f})  weights {row.network_rate:.2f}x fewer, "
            f"{row.pruned_rate:.2f}x in the pruned layers  {row.seconds:.0f} s"
        )
    if options.json:
        settings = {"task": options.task, "rates": rates, "seed": options.seed, "overrides": options.overrides}
        figures = settings | {"cpu": cpu_model(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
