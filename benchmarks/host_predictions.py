"""How far the sum of a table is from the measured latency of whole networks on this machine.

    python benchmarks/host_predictions.py [--tasks lenet5 resnet20 vgg16] [--runtimes torch onnxruntime openvino]
        [--plans 100] [--rounds 15] [--json FILE] [OVERRIDE ...]

Random plans of each network, from nearly nothing changed to everything. Plans take turns with the original in groups,
so that a change of the machine's speed meets all; a plan's time is its ratio to the original beside it times the
original's time over all groups. The raw figure compares the sum of operators and one call with that. The calibrated one
is fitted on the plans with even numbers and judged on the others, by least squares of relative errors: non-negative
factors of the sum, of the bytes of weights, which lie in no cache when a whole network runs, and of the numbers of
operators, of 8-bit ones, of conversions and of reshapes, which the sum counts as free.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from composing import compose_config
from espalier.commands.building import build, build_device
from espalier.commands.search import prepare_evaluator
from espalier.compression.plan import Plan
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.finish.output_grids import with_output_grids
from espalier.graph.opspec import FLOAT_BITS, FREE_KINDS, OpSpec
from espalier.hw_models.collector import OperatorCollector
from espalier.hw_models.cost import Cost
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.profiling.adaptive import Sampling, time_until_tight
from espalier.hw_models.profiling.noise import NoiseWatch
from espalier.hw_models.profiling.timing import one_processor
from espalier.hw_models.runtimes.onnx_export import export_onnx
from numpy.typing import NDArray
from safetensors.torch import save_model
from scipy.optimize import nnls
from scipy.stats import spearmanr

#: Latency does not depend on what a network has learnt: those without published weights keep their first ones.
_UNTRAINED = {
    "lenet5": ["task=fashion_lenet5", "task.training=null"],
    "vgg16": ["task=cifar10_resnet20", "model=vgg16", "model.image_size=32", "model.hidden=512", "model.n_classes=10"],
}
_TASKS = {"lenet5": _UNTRAINED["lenet5"], "resnet20": ["task=cifar10_resnet20"], "vgg16": _UNTRAINED["vgg16"]}
_RUNTIMES = ("torch", "onnxruntime", "openvino")

#: Plans that take turns, beside the original.
_GROUP = 7

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


class Networks:
    """The networks of one task, each exported once.

    Args:
        overrides: Of the configuration.
        folder: Where exported networks go.
    """

    def __init__(self, overrides: list[str], folder: Path) -> None:
        config = compose_config([*overrides, "evaluator=local", "device=host", "device.runtime=torch"])
        self.task, self.survey, self.bank, self.evaluator = prepare_evaluator(config, OperatorCollector())
        self._folder = folder

    def plans(self, count: int) -> list[Plan]:
        """Random plans, the share of changed layers rising from few to all."""
        space, rng = self.survey.space, np.random.default_rng(0)
        chosen: dict[str, Plan] = {}
        for number in range(10 * count):
            share = (number % count + 1) / count
            plan = space.plan([index if rng.random() < share else 0 for index in space.random(rng)])
            if plan != space.keep_plan:
                chosen.setdefault(plan.hash, plan)
            if len(chosen) == count:
                break
        return list(chosen.values())

    def executable(self, plan: Plan, device: ProfiledDevice) -> Any:
        """The plan's network on the device's engine."""
        network = self.evaluator.network(plan)
        if device.keeps_integers:
            inputs = self.task.calibrate.inputs(slice(0, 64))
            network = with_output_grids(network, self.survey.graph, self.survey.fusion, inputs)
        if device.runtime.name == "torch":
            return device.runtime.network(network, self.task.example_input)
        path = self._folder / f"{plan.hash}.onnx"
        if not path.exists():
            export_onnx(network, self.task.example_input, path)
        return device.runtime.network(network, self.task.example_input, path)


def measured_ms(networks: Networks, plans: Sequence[Plan], device: ProfiledDevice, sampling: Sampling) -> Figures:
    """Measured milliseconds of each plan."""
    original = networks.executable(networks.survey.space.keep_plan, device)
    ratios, originals = [], []
    with one_processor(device.runtime.threads):
        for start in range(0, len(plans), _GROUP):
            calls = [original, *(networks.executable(plan, device) for plan in plans[start : start + _GROUP])]
            medians = [float(np.median(row)) for row in time_until_tight(calls, sampling)]
            originals.append(medians[0])
            ratios += [median / medians[0] for median in medians[1:]]
            print(f"  {len(ratios)} of {len(plans)} plans measured", flush=True)
    return np.array(ratios) * np.median(originals)


#: What a latency is explained by, beside the sum of the table: what the sum cannot see.
_FEATURES = ("predicted_ms", "operators", "weights_mb", "reshapes", "integers", "conversions")


def features(evaluator: LocalEvaluator, plan: Plan, device: ProfiledDevice) -> list[float]:
    """The predicted sum in milliseconds, megabytes of weights, and counts of operators by sort; see `_FEATURES`."""
    ops = executed(evaluator, plan)
    timed = [op for op in ops if op.kind not in FREE_KINDS]
    counts = (
        len(timed),
        sum(op.weight_bytes for op in ops) / 1e6,
        len(ops) - len(timed),
        sum(op.bits != FLOAT_BITS for op in ops),
        sum(op.kind in ("quantize", "dequantize") for op in ops),
    )
    return [device.cost(timed).latency_ms.value, *map(float, counts)]


class _Recorder(OperatorCollector):
    """Remembers what is asked for in the order of execution, repetitions included."""

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        self.ops = list(ops)
        return super().cost(ops)


def executed(evaluator: LocalEvaluator, plan: Plan) -> list[OpSpec]:
    """The operators of a plan, conversions between number formats included."""
    recorder = _Recorder(evaluator.device.keeps_integers)
    evaluator.on(recorder).costs(plan)
    return recorder.ops


def calibrated(rows: Figures, measured: Figures) -> Figures:
    """Non-negative factors of the features by least squares of relative errors."""
    factors, _ = nnls(rows / measured[:, None], np.ones(len(measured)))
    return factors


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


def compared(networks: Networks, plans: Sequence[Plan], runtime: str, rounds: int, overrides: list[str]) -> Any:
    """Predicted against measured on one engine."""
    config = compose_config(["device=host", f"device.runtime={runtime}", *overrides])
    device = build_device(config)
    evaluator = networks.evaluator.on(device)
    watch = NoiseWatch()
    device.prepare(op for plan in plans for op in executed(evaluator, plan))
    rows = np.array([features(evaluator, plan, device) for plan in plans])
    measured = measured_ms(networks, plans, device, Sampling(rounds, 4 * rounds))
    result = {"raw": judged(rows[:, 0], measured), "noise": watch.report().to_dict()}
    if len(plans) >= 8:
        factors = calibrated(rows[::2], measured[::2])
        result["calibrated"] = judged(rows[1::2] @ factors, measured[1::2])
        result["factors"] = dict(zip(_FEATURES, map(float, factors), strict=True))
    result["plans"] = [
        dict(zip(_FEATURES, map(float, row), strict=True)) | {"measured_ms": float(ms)}
        for row, ms in zip(rows, measured, strict=True)
    ]
    return result


def shown(name: str, runtime: str, result: Any) -> str:
    """One line per way of predicting."""
    lines = [_line(name, runtime, way, result[way]) for way in ("raw", "calibrated") if way in result]
    if factors := result.get("factors"):
        lines.append("          factors: " + "  ".join(f"{key} {value:.4g}" for key, value in factors.items()))
    if result["noise"]["noisy"]:
        lines.append("          noisy: " + "; ".join(result["noise"]["reasons"]))
    return "\n".join(lines)


def _line(name: str, runtime: str, way: str, figures: dict[str, float]) -> str:
    percent = {key: f"{100 * value:.1f} %" for key, value in figures.items()}
    return (
        f"{name:<9} {runtime:<12} {way:<11} within 10 %: {percent['within_10_percent']:<8} median error "
        f"{percent['median_error']:<8} worst {percent['worst_abs_error']:<9} Spearman {figures['spearman']:.3f}"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=_TASKS, default=list(_TASKS))
    parser.add_argument("--runtimes", nargs="+", choices=_RUNTIMES, default=list(_RUNTIMES))
    parser.add_argument("--plans", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.tasks:
        with TemporaryDirectory() as folder:
            networks = Networks(with_weights(name, options.overrides, Path(folder)), Path(folder))
            plans = networks.plans(options.plans)
            for runtime in options.runtimes:
                started = time.perf_counter()
                result = compared(networks, plans, runtime, options.rounds, options.overrides)
                results[f"{name} {runtime}"] = result | {"seconds": time.perf_counter() - started}
                print(shown(name, runtime, result), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
