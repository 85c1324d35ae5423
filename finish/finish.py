"""The end of a search: refit, fine-tune, write, verify, measure, and only then look at the test split."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compression.assembly import fold_batch_norms
from ..compression.layers import trainable
from ..compression.plan import Plan
from ..compression.storage import save_network, serialise_network
from ..evaluation.archive import Evaluation
from ..evaluation.demand import Demand
from ..evaluation.metrics import COSTS, Metrics
from ..graph.layers import executable
from ..hw_models.cost import Estimate, HardwareModel
from ..hw_models.runtimes.runtime import make_runtime, missing_modules
from ..progress import console, step
from ..tasks.accuracy import accuracy
from ..tasks.distillation import DistillationReport, distil
from .measurement import LiveLatency, latency_ratio, measure_latency
from .network_timing import NetworkTimer
from .output_grids import with_output_grids
from .plan_networks import PlanNetworks
from .prediction import PredictionReport, measured_sample
from .pruning import PruningReport
from .recipe import FinishRecipe
from .refitting import Candidate, refitted_candidates
from .split_gap import accuracy_estimate
from .verification import onnx_error, verify_file
from .winner import choose_winner

__all__ = ["Finished", "Finisher"]

_VERIFIED_IMAGES = 32

#: Groups of candidates that are looked at for one that is not slower.
_MOST_GROUPS = 4


@dataclass(frozen=True)
class Finished:
    """What a run delivers.

    Attributes:
        plan: The winner.
        original: Metrics of the original; accuracy on the test split.
        baseline: Metrics of the original as the search saw it; accuracy on the search split.
        searched: Metrics as the search saw the winner; accuracy on the search split.
        final: Metrics of what was written; accuracy on the test split.
        accuracies: "original", "baseline", "searched" and "final" -> the accuracy with its standard deviation and
            split.
        search_accuracies: "original", "refitted" and "final" -> accuracy on the search split.
        latency_ratio: Original over final, from neighbouring samples where it was measured.
        distillation: What fine-tuning gave.
        onnx_max_abs_error: Largest difference of outputs between ONNX Runtime and PyTorch; None without ONNX.
        prediction: Predicted against measured latencies of other plans; None where nothing was measured.
        pruning: What the recipe's pruning gave; None where it left the winner as it was.
    """

    plan: Plan
    original: Metrics
    baseline: Metrics
    searched: Metrics
    final: Metrics
    accuracies: dict[str, Estimate]
    search_accuracies: dict[str, float]
    latency_ratio: float
    distillation: DistillationReport
    onnx_max_abs_error: float | None
    prediction: PredictionReport | None
    pruning: PruningReport | None = None

    @property
    def ratios(self) -> dict[str, float]:
        """For each cost, how many times less than the original."""
        return self.final.ratios(self.original) | {"latency_ms": self.latency_ratio}

    @property
    def accuracy_drop_points(self) -> float:
        """Percentage points of test accuracy that were lost."""
        return 100 * (self.original.accuracy - self.final.accuracy)

    @property
    def prediction_error_percent(self) -> float | None:
        """How far the predicted latency was from the measured one; None where nothing was measured."""
        if self.final.latency_ms.kind != "measured":
            return None
        return 100 * (self.searched.latency_ms.value / self.final.latency_ms.value - 1)

    @property
    def prediction_ratio_error_percent(self) -> float | None:
        """The same of the latency over the original's, which a machine that has changed its speed leaves alone."""
        if self.final.latency_ms.kind != "measured":
            return None
        predicted = self.searched.latency_ms.value / self.baseline.latency_ms.value
        return 100 * (predicted * self.latency_ratio - 1)

    def to_dict(self) -> dict[str, Any]:
        """The part of `summary.json` that speaks of the networks."""
        described = {
            name: {"accuracy": self.accuracies[name].to_dict(), **_costs(metrics)}
            for name, metrics in (
                ("original", self.original),
                ("baseline", self.baseline),
                ("searched", self.searched),
                ("final", self.final),
            )
        }
        short = {name: name.removesuffix("_ms").removesuffix("_mj").removesuffix("_bytes") for name in COSTS}
        return {
            **described,
            "ratios": {short[name]: ratio for name, ratio in self.ratios.items()},
            "accuracy_drop_points": self.accuracy_drop_points,
            "prediction_error_percent": self.prediction_error_percent,
            "prediction_ratio_error_percent": self.prediction_ratio_error_percent,
            "prediction": self.prediction.to_dict() if self.prediction else None,
            "search_accuracy": self.search_accuracies,
            "pruning": self.pruning.to_dict() if self.pruning else None,
            "fine_tuning": vars(self.distillation),
            "onnx_max_abs_error": self.onnx_max_abs_error,
        }


def _costs(metrics: Metrics) -> dict[str, Any]:
    return {name: value for name, value in metrics.to_dict().items() if name != "accuracy"}


class Finisher:
    """Turns the best plans of a search into files.

    Args:
        networks: Of plans, with the original network, its data and its space.
        device: Measures the result where it is this machine.
        demand: What the user wants.
        judge: The reward of metrics.
        recipe: How to finish.
        seed: Of the fine-tuning.
    """

    def __init__(
        self,
        networks: PlanNetworks,
        device: HardwareModel,
        demand: Demand,
        judge: Callable[[Metrics], float],
        recipe: FinishRecipe,
        *,
        seed: int,
    ) -> None:
        self._networks = networks
        self._task = networks.task
        self._survey = networks.survey
        self._device = device
        self._demand = demand
        self._judge = judge
        self._recipe = recipe
        self._seed = seed

    def finish(self, evaluations: Sequence[Evaluation], baseline: Metrics, folder: Path) -> Finished:
        """Refit, fine-tune, write `plan.json`, `model.safetensors` and `model.onnx`, verify and measure.

        Args:
            evaluations: Those of the search, the best first.
            baseline: Metrics of the original as the search saw them.
            folder: Where to write.
        """
        task = self._task
        original = fold_batch_norms(task.model, self._survey.batch_norm_pairs)
        winner = choose_winner(
            self._groups(evaluations),
            lambda candidate: self._rank(candidate, baseline),
            lambda candidate: self._latency_ratio(candidate, original),
            lambda candidate: bool(self._rank(candidate, baseline)[0]),
        )
        student, pruning = self._pruned(winner)
        network, report = self._fine_tuned(student)
        network = self._with_grids(network)
        storage_bytes = self._write(network, winner.evaluation.plan, folder)
        error = self._export(network, folder / "model.onnx")
        latency = self._measure(original, network, folder / "model.onnx" if error is not None else None)
        search_accuracies = {
            "original": baseline.accuracy,
            "refitted": winner.accuracy,
            "final": accuracy(executable(network), task.search),
        }
        prediction = self._prediction(evaluations, winner, baseline.latency_ms)
        metrics = self._metrics(winner, baseline, latency, original, storage_bytes)
        accuracies = self._accuracies(original, network, baseline, winner.evaluation.metrics)
        return Finished(
            plan=winner.evaluation.plan,
            original=replace(metrics[0], accuracy=accuracies["original"].value),
            baseline=baseline,
            searched=winner.evaluation.metrics,
            final=replace(metrics[1], accuracy=accuracies["final"].value),
            accuracies=accuracies,
            search_accuracies=search_accuracies,
            latency_ratio=latency.ratio if latency else metrics[1].ratios(metrics[0])["latency_ms"],
            distillation=report,
            onnx_max_abs_error=error,
            prediction=prediction,
            pruning=pruning,
        )

    def _groups(self, evaluations: Sequence[Evaluation]) -> Iterator[list[Candidate]]:
        """The best plans, refitted, a few at a time."""
        size = self._recipe.candidates
        for start in range(0, min(len(evaluations), _MOST_GROUPS * size), size):
            chosen = evaluations[start : start + size]
            yield refitted_candidates(self._networks, chosen)

    def _latency_ratio(self, candidate: Candidate, original: nn.Module) -> float:
        """Measured latency of the original over that of a candidate; infinite where nobody asks or can measure."""
        runtime = self._device.runtime
        if runtime is None or ("latency_ms" not in self._demand.weights.costs and self._demand.latency_ms is None):
            return math.inf
        network = self._with_grids(candidate.network)
        return latency_ratio(runtime, original, network, self._task.example_input, self._recipe.rounds)

    def _rank(self, candidate: Candidate, baseline: Metrics) -> tuple[bool, float]:
        metrics = replace(candidate.evaluation.metrics, accuracy=candidate.accuracy)
        return self._demand.is_met(metrics, baseline), self._judge(metrics)

    def _pruned(self, winner: Candidate) -> tuple[nn.Module, PruningReport | None]:
        """The winner's network with the weights that the recipe's pruning gives it."""
        pruned = self._recipe.pruning.prune(self._networks, winner.evaluation.plan, self._seed)
        if pruned is None:
            return copy.deepcopy(winner.network), None
        network, report = pruned
        return self._networks.folded(network), report

    def _fine_tuned(self, student: nn.Module) -> tuple[nn.Module, DistillationReport]:
        task = self._task
        with trainable(student):
            report = distil(student, task.model, task.fit, task.search, self._recipe.distillation, self._seed)
        return student.eval(), report

    def _with_grids(self, network: nn.Module) -> nn.Module:
        if not self._device.keeps_integers:
            return network
        inputs = self._task.calibrate.inputs(slice(0, self._recipe.refit_images))
        return with_output_grids(network, self._survey.graph, self._survey.fusion, inputs)

    def _write(self, network: nn.Module, plan: Plan, folder: Path) -> int:
        plan.save(folder / "plan.json")
        path = folder / "model.safetensors"
        size = save_network(path, network, self._task.model)
        verify_file(path, network, self._task.model, self._verified_inputs)
        return size

    @property
    def _verified_inputs(self) -> torch.Tensor:
        return self._task.calibrate.inputs(slice(0, _VERIFIED_IMAGES))

    def _export(self, network: nn.Module, path: Path) -> float | None:
        if not self._recipe.onnx:
            return None
        if missing := missing_modules("onnx", "onnxruntime", "onnxscript"):
            console.print(f"no ONNX file: {', '.join(missing)} missing, pip install 'espalier\\[export]'")
            return None
        from ..hw_models.runtimes.onnx_export import export_onnx  # noqa: PLC0415  # an optional dependency

        with step("exporting to ONNX"):
            export_onnx(network, self._task.example_input, path)
            return onnx_error(make_runtime("onnxruntime", 1), path, network, self._verified_inputs)

    def _measure(self, original: nn.Module, final: nn.Module, onnx_file: Path | None) -> LiveLatency | None:
        runtime = self._device.runtime
        if runtime is None:
            return None
        example = self._task.example_input
        return measure_latency(runtime, original, final, example, self._recipe.rounds, onnx_file)

    def _prediction(
        self, evaluations: Sequence[Evaluation], winner: Candidate, original: Estimate
    ) -> PredictionReport | None:
        runtime = self._device.runtime
        if runtime is None:
            return None
        timer = NetworkTimer(self._task, self._survey, self._networks.bank, runtime)
        return measured_sample(evaluations, winner.evaluation, original, self._recipe.sampled_plans, timer)

    def _metrics(
        self,
        winner: Candidate,
        baseline: Metrics,
        latency: LiveLatency | None,
        original: nn.Module,
        storage_bytes: int,
    ) -> tuple[Metrics, Metrics]:
        """Metrics of the original and the result, what was measured in the place of what was modelled."""
        original_bytes = len(serialise_network(original, self._task.model))
        before = replace(baseline, storage_bytes=_file_size(original_bytes))
        after = replace(winner.evaluation.metrics, storage_bytes=_file_size(storage_bytes))
        if latency is None:
            return before, after
        before, after = replace(before, latency_ms=latency.original), replace(after, latency_ms=latency.final)
        if latency.energies is None:
            return before, after
        return replace(before, energy_mj=latency.energies[0]), replace(after, energy_mj=latency.energies[1])

    def _accuracies(
        self, original: nn.Module, final: nn.Module, baseline: Metrics, searched: Metrics
    ) -> dict[str, Estimate]:
        """Those of the search split as the search saw them; the test split's are read here, once."""
        test = self._task.open_test_split()
        seen = {"baseline": baseline, "searched": searched}
        count = len(self._task.search)
        return {
            "original": accuracy_estimate(accuracy(original, test), len(test), "test"),
            **{name: accuracy_estimate(metrics.accuracy, count, "search") for name, metrics in seen.items()},
            "final": accuracy_estimate(accuracy(executable(final), test), len(test), "test"),
        }


def _file_size(size: int) -> Estimate:
    return Estimate(size, 0.0, "measured", "bytes of the safetensors file")
