"""Searched rates and block sizes of block column-row (BCR) pruning against the same rate and block everywhere.

    python benchmarks/bcr_search.py FOLDER [--task TASK] [--rates 2,4,8] [--blocks 8x36,16x144] [--agents dyna,random]
        [--seeds 0,1,2] [--budget 100] [--anchors 3] [--only search|compile|time|finish] [OVERRIDE ...]

*Uniform*: at every open site one rate and one block size, for each rate and each size, and the same plans with the
first and the last layer left dense (*inner*). Some of these plans are anchors. For each, searches that may choose a
rate and a block size at every site, or leave it dense, look for the least latency at the anchor's accuracy, and for
the most accuracy at its latency, both on the search split.

`search` evaluates and writes FOLDER/searched.json; `compile` compiles the networks of its plans; `time` times them in
turn with the original and writes FOLDER/timed.json; `finish` retrains the uniform and the searched plan of each anchor
alike, opens the test split once, and writes FOLDER/finished.json. All four without `--only`. Timing wants a machine
where nothing else runs.
"""

import argparse
import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from composing import compose_config
from espalier.commands.building import build
from espalier.commands.search import Prepared, prepare
from espalier.compression.choice import KEEP, Choice
from espalier.compression.layers import trainable
from espalier.compression.plan import Plan
from espalier.compression.site import Site
from espalier.compression.techniques import BcrPruning
from espalier.envs.problem import Problem
from espalier.evaluation.archive import Evaluation
from espalier.evaluation.demand import Demand, Weights
from espalier.evaluation.metrics import Metrics
from espalier.finish.network_timing import NetworkTimer
from espalier.graph.layers import executable
from espalier.hw_models.machine import cpu_model
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.tasks.accuracy import accuracy
from espalier.tasks.distillation import distil
from scipy.stats import spearmanr

#: What is aimed at counts nine times as much as what is bounded anyway.
_MOST, _LEAST = 0.9, 0.1

#: What people call a close prediction.
_CLOSE_PERCENT = 10


@dataclass(frozen=True)
class Row:
    """One plan.

    Attributes:
        plan: Its JSON form.
        accuracy: On the search split.
        predicted_ms: Sum of operators.
        name: What made it.
        anchor: Name of the uniform plan that it is compared with; "" for uniform plans.
        aim: "latency" or "accuracy", what was looked for; "" for uniform plans.
        evaluations: After how many it was the best.
        measured_ms: Of the whole compiled network; 0 before it is timed.
    """

    plan: dict[str, Any]
    accuracy: float
    predicted_ms: float
    name: str
    anchor: str = ""
    aim: str = ""
    evaluations: int = 0
    measured_ms: float = 0.0


def uniform_plans(prepared: Prepared, rates: Sequence[float], blocks: Sequence[str]) -> Iterator[tuple[str, Plan]]:
    """One rate and one block size at every site where it saves something, and the same without first and last."""
    space = prepared.problem.space
    (technique,) = (one for one in space.techniques.values() if isinstance(one, BcrPruning))
    opened = [site.name for site, choices in zip(space.sites, space.choices, strict=True) if len(choices) > 1]
    for rate, block in product(rates, blocks):
        wanted = Choice.of(technique.name, rate=rate, block=block)
        chosen = {s.name: _same(technique, s, c, wanted) for s, c in zip(space.sites, space.choices, strict=True)}
        yield f"{rate:g}x {block}", Plan.of(chosen)
        yield f"{rate:g}x {block} inner", Plan.of(chosen | {opened[0]: KEEP, opened[-1]: KEEP})


def _same(technique: BcrPruning, site: Site, choices: Sequence[Choice], wanted: Choice) -> Choice:
    """What is wanted, or the choice whose blocks cut the site's matrix in the same way."""
    rows, columns = technique.matrix_size(site)

    def cut(choice: Choice) -> tuple[int, ...]:
        block = map(int, choice["block"].split("x"))
        return tuple(min(pair) for pair in zip(block, (rows, columns), strict=True))

    equal = (c for c in choices if c != KEEP and c["rate"] == wanted["rate"] and cut(c) == cut(wanted))
    return next(equal, KEEP)


def spread_anchors(uniform: Sequence[Row], count: int, floor: float) -> list[Row]:
    """Plans that no other uniform plan beats, spread over the accuracies above a floor."""
    rows = [row for row in uniform if row.accuracy >= floor]
    front = [r for r in rows if not any(o.accuracy >= r.accuracy and o.predicted_ms < r.predicted_ms for o in rows)]
    front.sort(key=lambda row: row.accuracy)
    places = {round(place * (len(front) - 1) / max(1, count - 1)) for place in range(count)}
    return [front[place] for place in sorted(places)]


def demand_of(anchor: Row, aim: str) -> Demand:
    """The least latency at the anchor's accuracy, or the most accuracy at its latency."""
    if aim == "latency":
        return Demand(Weights(_LEAST, _MOST, storage=0), None, min_accuracy=anchor.accuracy)
    return Demand(Weights(_MOST, _LEAST, storage=0), None, latency_ms=anchor.predicted_ms)


def best(evaluations: Sequence[Evaluation], aim: str) -> Evaluation | None:
    """The plan that a search ends with, among those that meet its demand."""

    def rank(evaluation: Evaluation) -> tuple[float, float]:
        figures = evaluation.metrics.latency_ms.value, -evaluation.metrics.accuracy
        return figures if aim == "latency" else (figures[1], figures[0])

    return min((e for e in evaluations if e.feasible), key=rank, default=None)


def searched(prepared: Prepared, options: argparse.Namespace, anchors: Sequence[Row], few: int) -> Iterator[Row]:
    """What each agent and seed finds for each anchor, after as many evaluations as there are uniform plans and all."""
    first = prepared.problem
    device = prepared.evaluator.device
    for anchor in anchors:
        for aim in options.aims.split(","):
            problem = Problem(first.bank, first.evaluator, first.reward, demand_of(anchor, aim), device)
            for agent in options.agents.split(","):
                node = compose_config([f"agent={agent}", f"task={options.task}"])["agent"]
                for seed in map(int, options.seeds.split(",")):
                    found = list(build({**node, "seed": seed}).search(problem, options.budget))
                    for count in sorted({min(few, options.budget), options.budget}):
                        winner = best(found[:count], aim)
                        if winner is not None:
                            yield _row(winner.plan, winner.metrics, f"{agent} {seed}", anchor.name, aim, count)


def _row(plan: Plan, metrics: Metrics, name: str, anchor: str = "", aim: str = "", evaluations: int = 0) -> Row:
    predicted_ms = metrics.latency_ms.value
    row = Row(plan.to_dict(), metrics.accuracy, predicted_ms, name, anchor, aim, evaluations)
    print(f"{anchor:20} {aim:9} {name:20} {evaluations or '':4} {_figures(row)}", flush=True)
    return row


def _figures(row: Row) -> str:
    measured = f"  measured {1e3 * row.measured_ms:8.1f} us" if row.measured_ms else ""
    return f"accuracy {100 * row.accuracy:6.2f} %  predicted {1e3 * row.predicted_ms:8.1f} us{measured}"


def search(prepared: Prepared, options: argparse.Namespace) -> list[Row]:
    """Evaluate uniform plans, then search beside the anchors among them."""
    rates, blocks = map(float, options.rates.split(",")), options.blocks.split(",")
    plans = list(uniform_plans(prepared, list(rates), blocks))
    judged = prepared.evaluator.evaluate([plan for _, plan in plans])
    uniform = [_row(plan, one.metrics, name) for (name, plan), one in zip(plans, judged, strict=True)]
    baseline = prepared.problem.baseline
    anchors = spread_anchors(uniform, options.anchors, baseline.accuracy - options.most_points / 100)
    original = _row(prepared.problem.space.keep_plan, baseline, "original")
    return [original, *uniform, *searched(prepared, options, anchors, len(uniform))]


def timed(prepared: Prepared, rows: Sequence[Row]) -> list[Row]:
    """The rows with what whole networks take, those of equal operators timed once."""
    timer, plans = _timer(prepared), [Plan.from_dict(row.plan) for row in rows]
    different = {timer.label(plan): plan for plan in plans}
    measured = timer.measure(list(different.values()), "timing plans")
    ms = dict(zip(different, (one.latency_ms for one in measured), strict=True))
    return [replace(row, measured_ms=ms[timer.label(plan)]) for row, plan in zip(rows, plans, strict=True)]


def _timer(prepared: Prepared) -> NetworkTimer:
    device = prepared.evaluator.device
    assert isinstance(device, ProfiledDevice)
    return NetworkTimer(prepared.task, prepared.survey, prepared.problem.bank, device.runtime)


def compile_ahead(prepared: Prepared, rows: Sequence[Row]) -> None:
    """Compile the networks: a library is made once for all of equal operators."""
    timer, device = _timer(prepared), prepared.evaluator.device
    for plan in {timer.label(plan): plan for plan in (Plan.from_dict(row.plan) for row in rows)}.values():
        device.runtime.network(timer.network(plan), prepared.task.example_input)


def fastest_uniform(rows: Sequence[Row], floor: float) -> Row:
    """The uniform plan that was measured to be the fastest of those that reach an accuracy."""
    uniform = (row for row in rows if not row.anchor and row.name != "original" and row.accuracy >= floor)
    return min(uniform, key=lambda row: row.measured_ms)


def most_accurate_uniform(rows: Sequence[Row], limit_ms: float) -> Row:
    """The most accurate of the uniform plans that were measured to be fast enough."""
    uniform = (row for row in rows if not row.anchor and row.name != "original" and row.measured_ms <= limit_ms)
    return max(uniform, key=lambda row: row.accuracy)


def show_comparison(rows: Sequence[Row]) -> None:
    """Each searched plan beside the best uniform one."""
    original = next(row for row in rows if row.name == "original")
    print(f"original: {_figures(original)}")
    named = {row.name: row for row in rows if not row.anchor}
    for row in sorted((row for row in rows if row.anchor), key=lambda row: (row.anchor, row.aim, row.evaluations)):
        anchor = named[row.anchor]
        if row.aim == "latency":
            rival = fastest_uniform(rows, anchor.accuracy)
            verdict = f"{rival.measured_ms / row.measured_ms:.2f}x of {rival.name}"
        else:
            rival = most_accurate_uniform(rows, max(anchor.measured_ms, row.measured_ms))
            verdict = f"{100 * (row.accuracy - rival.accuracy):+.2f} points of {rival.name}"
        print(f"{row.anchor:20} {row.aim:9} {row.name:20} {row.evaluations:4} {_figures(row)}  {verdict}")


def show_prediction(rows: Sequence[Row]) -> None:
    """How far the sums that searches see are from what networks take."""
    different = {json.dumps(row.plan): row for row in rows}.values()
    predicted, measured = np.array([(row.predicted_ms, row.measured_ms) for row in different]).T
    errors = 100 * (predicted / measured - 1)
    print(
        f"predicted against measured, {len(errors)} plans: median {np.median(errors):+.1f} %, worst "
        f"{errors[np.abs(errors).argmax()]:+.1f} %, within 10 %: {np.mean(np.abs(errors) <= _CLOSE_PERCENT):.0%}, "
        f"Spearman {spearmanr(predicted, measured).statistic:.3f}"
    )


def finish(prepared: Prepared, options: argparse.Namespace, rows: Sequence[Row], config: Any) -> list[dict[str, Any]]:
    """Retrain the fastest uniform and the searched plans of each anchor alike; look at the test split at the end."""
    networks = prepared.networks(config["finish"]["refit_images"])
    task, made = prepared.task, []
    named = {row.name: row for row in rows if not row.anchor}
    anchors = list(dict.fromkeys(row.anchor for row in rows if row.anchor))
    for name in options.finished.split(",") if options.finished else anchors:
        own = [r for r in rows if (r.anchor, r.aim, r.evaluations) == (name, "latency", options.budget)]
        chosen = [fastest_uniform(rows, named[name].accuracy), *(r for r in own if r.name == "dyna 0")]
        for row in chosen:
            plan = Plan.from_dict(row.plan)
            closed = networks.folded(networks.refitted(plan))
            pruned = build(config["pruning"]).prune(networks, plan, 0)
            network = copy.deepcopy(networks.folded(pruned[0] if pruned else networks.refitted(plan)))
            with trainable(network):
                distil(network, task.model, task.fit, task.search, build(config["finish"]["distillation"]), 0)
            made.append((name, row, closed, network.eval()))
            print(
                f"{name:20} {row.name:20} search {100 * accuracy(executable(network), task.search):.2f} %", flush=True
            )
    test = task.open_test_split()
    return [
        {
            "anchor": name,
            "name": row.name,
            "measured_ms": row.measured_ms,
            "search": {"closed": row.accuracy, "retrained": accuracy(executable(network), task.search)},
            "test": {"closed": accuracy(executable(closed), test), "retrained": accuracy(executable(network), test)},
            "original_test": accuracy(executable(task.model), test),
        }
        for name, row, closed, network in made
    ]


def show_finished(rows: Sequence[dict[str, Any]]) -> None:
    """One line per network."""
    for row in rows:
        shares = "  ".join(
            f"{split} {100 * row[split]['closed']:.2f} -> {100 * row[split]['retrained']:.2f} %"
            for split in ("search", "test")
        )
        print(f"{row['anchor']:20} {row['name']:20} {1e3 * row['measured_ms']:8.1f} us  {shares}")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Accuracy against measured latency."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # only where a picture is wanted

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.name.split()[0] if row.anchor or row.name == "original" else "uniform", []).append(row)
    for kind, own in kinds.items():
        axes.plot([1e3 * r.measured_ms for r in own], [100 * r.accuracy for r in own], "o", label=kind, alpha=0.6)
    axes.set(xlabel="measured latency, us", ylabel="accuracy on the search split, %")
    axes.legend()
    figure.savefig(path, dpi=110)


def load(path: Path) -> list[Row]:
    """Rows that were written."""
    return [Row(**values) for values in json.loads(path.read_text())["rows"]]


def write(path: Path, options: argparse.Namespace, rows: Sequence[Any]) -> None:
    """Rows with what they were made with."""
    facts = {key: str(value) for key, value in vars(options).items()} | {"cpu": cpu_model()}
    path.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


def main() -> None:
    """The stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="spoken_digits_cnn")
    parser.add_argument("--rates", default="1.5,2,3,4,6,8,16")
    parser.add_argument("--blocks", default="4x36,16x144,32x288")
    parser.add_argument("--agents", default="dyna,random,evolution")
    parser.add_argument("--aims", default="latency,accuracy", help="what searches look for")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--anchors", type=int, default=3)
    parser.add_argument("--most-points", type=float, default=5.0, help="of accuracy that an anchor may have lost")
    parser.add_argument("--finished", help="anchors whose plans are retrained; all where not given")
    parser.add_argument("--only", choices=("search", "compile", "time", "finish"))
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    blocks = ",".join(f"[{block.replace('x', ',')}]" for block in options.blocks.split(","))
    technique = "space.techniques.bcr_pruning"
    words = [
        f"task={options.task}",
        "space=bcr",
        f"{technique}.rates=[{options.rates}]",
        f"{technique}.blocks=[{blocks}]",
    ]
    config = compose_config([*words, "device.runtime=espalier", "device.networks=0", *options.overrides])
    prepared = prepare(config)
    stages = [options.only] if options.only else ["search", "compile", "time", "finish"]
    if "search" in stages:
        write(options.folder / "searched.json", options, [asdict(row) for row in search(prepared, options)])
    if "compile" in stages:
        compile_ahead(prepared, load(options.folder / "searched.json"))
    if "time" in stages:
        rows = timed(prepared, load(options.folder / "searched.json"))
        write(options.folder / "timed.json", options, [asdict(row) for row in rows])
        show_comparison(rows)
        show_prediction(rows)
        draw(rows, options.folder / "bcr_search.png")
    if "finish" in stages:
        finished = finish(prepared, options, load(options.folder / "timed.json"), config)
        write(options.folder / "finished.json", options, finished)
        show_finished(finished)


if __name__ == "__main__":
    main()
