"""How far predicted latencies of whole networks are from measured ones on this machine.

    python benchmarks/host_predictions.py [--tasks lenet5 resnet20 vgg16]
        [--runtimes torch onnxruntime openvino espalier] [--plans 100] [--json FILE] [OVERRIDE ...]

Random plans of each network, from nearly nothing changed to everything, none of them among those that the device learnt
from; plans take turns with the original in groups. *Sum* is the table's operators and one call, *corrected* what
`device=host` answers: the sum corrected by `device.networks` other networks, which were measured before. Two more tell
what of the error is the machine's, which may have become slower in between. *Anchored* is the same times the original's
measured latency over its predicted one; *beside* is the correction by the same networks measured again among the judged
plans. With those measurements it is fitted to fewer networks, too, to see how many it takes.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from composing import compose_config
from espalier.commands.building import build, build_device
from espalier.commands.search import prepare_evaluator
from espalier.compression.plan import Plan
from espalier.compression.spread import spread_plans
from espalier.finish.network_timing import NetworkTimer, learn_networks
from espalier.hw_models.collector import OperatorCollector
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.profiling.noise import NoiseWatch
from espalier.hw_models.tables.correction import FEWEST_NETWORKS, fitted_correction, network_sums
from espalier.hw_models.tables.sums import summed_latency
from espalier.hw_models.tables.table import LookupTable
from numpy.typing import NDArray
from safetensors.torch import save_model
from scipy.stats import spearmanr

#: Latency does not depend on what a network has learnt: those without published weights keep their first ones.
_UNTRAINED = {
    "lenet5": ["task=fashion_lenet5", "task.training=null"],
    "vgg16": ["task=cifar10_resnet20", "model=vgg16", "model.image_size=32", "model.hidden=512", "model.n_classes=10"],
}
_TASKS = {"lenet5": _UNTRAINED["lenet5"], "resnet20": ["task=cifar10_resnet20"], "vgg16": _UNTRAINED["vgg16"]}
_RUNTIMES = ("torch", "onnxruntime", "openvino", "espalier")

#: Of the judged plans; the device learns from others.
_SEED = 0

Figures = NDArray[np.float64]


def with_weights(name: str, overrides: list[str], folder: Path) -> list[str]:
    """The overrides of a task; those of an untrained network with a file of its first weights."""
    words = [*_TASKS[name], *overrides]
    if name not in _UNTRAINED:
        return words
    torch.manual_seed(0)
    path = folder / "untrained.safetensors"
    save_model(build(compose_config([*words, "task.checkpoint=none"])["model"]), str(path))
    return [*words, f"task.name=untrained_{name}", f"task.checkpoint={path}", "data.calibrate=128"]


def judged(predicted: Figures, measured: Figures) -> dict[str, float]:
    """Errors and agreement in rank."""
    errors = predicted / measured - 1
    return {
        "within_10_percent": float(np.mean(np.abs(errors) <= 0.1)),
        "median_error": float(np.median(errors)),
        "median_abs_error": float(np.median(np.abs(errors))),
        "worst_abs_error": float(np.max(np.abs(errors))),
        "spearman": float(spearmanr(predicted, measured).statistic),
    }


def fitted_to(count: int, table: LookupTable, learnt: Sequence[Measurement], others: Sequence[Measurement]) -> Figures:
    """Predictions of `others` when only `count` of the networks in `learnt`, evenly spread, had been measured."""
    chosen = [learnt[place] for place in np.linspace(0, len(learnt) - 1, count).round().astype(int)]
    fewer = replace(table, networks={network.label: network for network in chosen})
    correction = fitted_correction(fewer, {op for network in [*learnt, *others] for op in network.ops})
    return np.array([summed_latency(table, network.ops, "", correction).value for network in others])


def thinned(plans: Sequence[Plan], count: int) -> list[Plan]:
    """As many of the plans, evenly spread."""
    return [plans[place] for place in np.unique(np.linspace(0, len(plans) - 1, count).round().astype(int))]


def compared(prepared: Any, device: ProfiledDevice, count: int) -> dict[str, Any]:
    """Predicted against measured on one engine."""
    task, survey, bank, evaluator = prepared
    watch, started = NoiseWatch(), time.perf_counter()
    evaluator.on(device).prepare()
    timer = NetworkTimer(task, survey, bank, device.runtime)
    learn_networks(timer, device)
    seconds = time.perf_counter() - started
    labels = timer.different(device.networks)
    plans = [plan for plan in spread_plans(survey.space, count + len(labels), _SEED) if timer.label(plan) not in labels]
    both = timer.measure([*labels.values(), *thinned(plans, count)], "measuring the judged plans")
    again, others = both[: len(labels)], both[len(labels) :]
    measured = np.array([network.latency_ms for network in others])
    corrected = np.array([device.cost(network.ops).latency_ms.value for network in others])
    sums = network_sums(device.table, others)
    original = again[0]
    speed = original.latency_ms / device.cost(original.ops).latency_ms.value
    beside = fitted_to(len(again), device.table, again, others)
    counts = [number for number in (8, 12, 16, 24, 48, 64, 96) if FEWEST_NETWORKS <= number < len(again)]
    return {
        "sum": judged(sums, measured),
        "corrected": judged(corrected, measured),
        "anchored": judged(corrected * speed, measured),
        "beside": judged(beside, measured),
        "fewer": {number: judged(fitted_to(number, device.table, again, others), measured) for number in counts},
        "networks": len(again),
        "seconds_to_prepare": seconds,
        "noise": watch.report().to_dict(),
        "plans": np.stack([sums, corrected, beside, measured], axis=1).tolist(),
    }


def shown(name: str, runtime: str, result: dict[str, Any]) -> str:
    """One line per way of predicting."""
    lines = [_line(name, runtime, way, result[way]) for way in ("sum", "corrected", "anchored", "beside")]
    lines += [_line("", "", f"of {number}", figures) for number, figures in result["fewer"].items()]
    if result["noise"]["noisy"]:
        lines.append("          noisy: " + "; ".join(result["noise"]["reasons"]))
    return "\n".join(lines)


def _line(name: str, runtime: str, way: str, figures: dict[str, float]) -> str:
    percent = {key: f"{100 * value:.1f} %" for key, value in figures.items()}
    return (
        f"{name:<9} {runtime:<12} {way:<10} within 10 %: {percent['within_10_percent']:<8} median error "
        f"{percent['median_error']:<8} worst {percent['worst_abs_error']:<9} Spearman {figures['spearman']:.3f}"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=_TASKS, default=list(_TASKS))
    parser.add_argument("--runtimes", nargs="+", choices=_RUNTIMES, default=list(_RUNTIMES))
    parser.add_argument("--plans", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.tasks:
        with TemporaryDirectory() as folder:
            words = [*with_weights(name, options.overrides, Path(folder)), "evaluator=local", "device=host"]
            prepared = prepare_evaluator(compose_config(words), OperatorCollector())
            for runtime in options.runtimes:
                device = build_device(compose_config([*words, f"device.runtime={runtime}"]))
                result = compared(prepared, cast("ProfiledDevice", device), options.plans)
                results[f"{name} {runtime}"] = result
                print(shown(name, runtime, result), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
