"""From a plan to its metrics."""

import copy
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from ..compression.assembly import assemble, fold_batch_norms
from ..compression.bank import Bank
from ..compression.choice import KEEP
from ..compression.counting import SizeCounter
from ..compression.plan import Plan
from ..compression.realised import Realiser
from ..compression.refit import Refit
from ..compression.survey import Survey
from ..compression.technique import settings
from ..errors import EspalierError
from ..files import content_hash
from ..graph.graph import Operator
from ..graph.integers import with_conversions
from ..graph.layers import executable
from ..graph.memory import peak_activation_bytes, weight_bytes
from ..graph.overwriting import overwritable, overwriting
from ..hw_models.cost import Estimate, HardwareModel, skips_blocks
from ..tasks.accuracy import BATCH_SIZE, count_right
from ..tasks.precision import computing_in
from ..tasks.task import Task
from ..workers import single_threaded_workers
from .bounds import CostBounds
from .metrics import Metrics
from .precision import WantedPrecision, chosen_precision
from .recalibration import RelativeRecalibration
from .store import Record, Store
from .tuning import BriefTuning

__all__ = ["EvaluatedPlan", "Evaluator", "LocalEvaluator"]

EVALUATOR_VERSION = 5

#: Fewer images say too little of a layer's mean and variance.
_FEWEST_IMAGES = 16

#: Memory for refitted layers of plans before.
_REMEMBERED_BYTES = 2**28

#: Plans that are judged side by side: more of them would hold more networks in memory, and keep no processor busier.
_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class EvaluatedPlan:
    """What an evaluator answers.

    Attributes:
        metrics: Accuracy and costs.
        seconds: How long the evaluation took, when it was done; of plans judged side by side, since the one before.
        repeated: Whether it was answered from the store.
    """

    metrics: Metrics
    seconds: float
    repeated: bool


class Evaluator(Protocol):
    """A plan in, metrics out."""

    def evaluate(self, plans: Sequence[Plan]) -> Sequence[EvaluatedPlan]:
        """Evaluate plans; what the store knows is not evaluated again."""

    def costs(self, plan: Plan) -> Metrics:
        """The costs of a plan with an accuracy of nan: exact, and too cheap to count as an evaluation."""


class LocalEvaluator:
    """Evaluates in this process, on the search split.

    Args:
        task: The network and its data.
        survey: The network's search space.
        bank: The variants.
        device: Hardware model.
        store: Remembers accuracies between runs; None forgets them.
        recalibration_share: Images of the calibrate split that batch-norm statistics are adapted on, as a share of the
            search split: what recalibration adds to the time of an evaluation.
        refit_images: Calibration images that a plan's layers are solved again on before it is judged; 0 takes the
            bank's as they are.
        tuning_steps: Gradient steps towards the original before a plan is judged; 0 judges it as it is assembled.
        tuning_rate: Their first learning rate, above 0.
        precision: What right answers are counted with: "float32", "bfloat16", or "auto" for the faster of them.

    Attributes:
        device: The hardware model.

    Raises:
        EspalierError: A setting is out of range.
    """

    def __init__(
        self,
        task: Task,
        survey: Survey,
        bank: Bank,
        device: HardwareModel,
        store: Store | None = None,
        *,
        recalibration_share: float = 0.07,
        refit_images: int = 0,
        tuning_steps: int = 0,
        tuning_rate: float = 2e-4,
        precision: WantedPrecision = "auto",
    ) -> None:
        if min(recalibration_share, refit_images, tuning_steps) < 0 or not tuning_rate > 0:
            wanted = "recalibration_share, refit_images and tuning_steps must be at least 0, tuning_rate above 0"
            got = f"{recalibration_share}, {refit_images}, {tuning_steps} and {tuning_rate}"
            raise EspalierError(f"evaluator: {wanted}; got {got}")
        self._task = task
        self._survey = survey
        self._bank = bank
        self.device = device
        self._store = store
        self._recalibration_images = max(_FEWEST_IMAGES, round(recalibration_share * len(task.search)))
        self._refit_images = refit_images
        self._tuning_steps = tuning_steps
        self._tuning_rate = tuning_rate
        self._precision = chosen_precision(precision, task.model, survey.graph, task.example_input)
        self._realiser = self._realiser_for(device)
        self._sizes = SizeCounter(task.model, bank, survey.batch_norm_pairs)
        self._overwritable = overwritable(survey.graph)
        self._costs: dict[str, Metrics] = {}

    def on(self, device: HardwareModel) -> "LocalEvaluator":
        """The same evaluator with the costs of another device; accuracies are shared."""
        twin = copy.copy(self)
        twin.device, twin._costs, twin._realiser = device, {}, self._realiser_for(device)
        return twin

    def _realiser_for(self, device: HardwareModel) -> Realiser:
        return Realiser(self._survey.graph, self._survey.fusion, self._bank, skips_blocks(device))

    @property
    def is_tuning(self) -> bool:
        """Whether plans are judged after gradient steps, so that fine-tuning had better go on from there."""
        return self._tuning_steps > 0

    def prepare(self) -> None:
        """Make the device ready for every operator that a plan can lead to."""
        plans = self._realiser.covering_plans()
        self.device.prepare(spec for plan in plans for o in self._operators(plan) for spec in o.specs)

    @cached_property
    def _recalibration(self) -> RelativeRecalibration:
        images = self._task.calibrate.inputs(slice(0, self._recalibration_images))
        return RelativeRecalibration(self._task.model, images)

    @cached_property
    def _refit(self) -> Refit:
        inputs = self._task.calibrate.inputs(slice(0, self._refit_images))
        return Refit(self._task.model, self._bank, inputs, _REMEMBERED_BYTES)

    @cached_property
    def _tuning(self) -> BriefTuning:
        return BriefTuning(self._task.model, self._task.calibrate.inputs(), self._tuning_steps, self._tuning_rate)

    @cached_property
    def _batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(self._task.search.batches(BATCH_SIZE))

    @cached_property
    def context(self) -> str:
        """Hash of everything that an accuracy depends on beside the plan."""
        techniques = [settings(technique) for _, technique in sorted(self._bank.space.techniques.items())]
        facts = (EVALUATOR_VERSION, self._recalibration_images, techniques, torch.__version__)
        refitting = ("refit", self._refit_images) if self._refit_images else ()
        tuning = ("tuning", self._tuning_steps, self._tuning_rate) if self._tuning_steps else ()
        rounding = () if self._precision == "float32" else (self._precision,)
        return content_hash(self._task.fingerprint, repr(facts + refitting + tuning + rounding))

    def network(self, plan: Plan) -> nn.Module:
        """The network of a plan: recalibrated, its batch-norms folded; refitted and tuned where asked for."""
        if plan.hash == self._bank.space.keep_plan.hash:
            return fold_batch_norms(self._task.model, self._survey.batch_norm_pairs)
        network = self._recalibration.apply(self._assembled(plan), self._bank.kept_channels(plan))
        folded = fold_batch_norms(network, self._survey.batch_norm_pairs)
        return self._tuning.apply(folded) if self._tuning_steps else folded

    def _assembled(self, plan: Plan) -> nn.Module:
        if not self._refit_images:
            return assemble(self._task.model, plan, self._bank)
        return self._refit.apply(plan)

    def evaluate(self, plans: Sequence[Plan]) -> Sequence[EvaluatedPlan]:
        """Accuracy on the search split and costs of each plan; several are judged side by side."""
        records = self._stored(plans)
        missing = [plan for key, plan in {plan.hash: plan for plan in plans}.items() if key not in records]
        repeated = set(records)
        for plan, record in zip(missing, self._measure(missing), strict=True):
            if self._store:
                self._store.put(self.context, plan.hash, json.dumps(plan.to_dict()), record)
            records[plan.hash] = record
        return [self._evaluated(plan, records[plan.hash], plan.hash in repeated) for plan in plans]

    def _stored(self, plans: Sequence[Plan]) -> dict[str, Record]:
        if self._store is None:
            return {}
        found = {plan.hash: self._store.get(self.context, plan.hash) for plan in plans}
        return {key: record for key, record in found.items() if record}

    def _evaluated(self, plan: Plan, record: Record, is_repeated: bool) -> EvaluatedPlan:
        return EvaluatedPlan(self.costs(plan).with_accuracy(record.accuracy), record.seconds, is_repeated)

    def _measure(self, plans: Sequence[Plan]) -> Iterator[Record]:
        """Accuracies in the order of the plans; the seconds are those since the one before."""
        if plans:
            self._make_ready()
        for first in range(0, len(plans), _TOGETHER):
            yield from self._measure_together(plans[first : first + _TOGETHER])

    def _measure_together(self, plans: Sequence[Plan]) -> Iterator[Record]:
        # A plan that the store knows draws no random numbers; one that is measured must not either, or a resumed search
        # would take another way. Fresh layers draw their first weights.
        with torch.random.fork_rng(devices=[]), single_threaded_workers() as pool:
            started = time.perf_counter()
            # First come, first served: who waits for a network never keeps its maker waiting.
            networks = [pool.submit(self._executable, plan) for plan in plans]
            answers = [[pool.submit(self._right, network, *batch) for batch in self._batches] for network in networks]
            for parts in answers:
                right = sum(part.result() for part in parts)
                over = time.perf_counter()
                yield Record(right / len(self._task.search), over - started)
                started = over

    @torch.inference_mode()
    def _right(self, network: "Future[nn.Module]", inputs: Tensor, labels: Tensor) -> int:
        with computing_in(self._precision):
            return count_right(network.result(), inputs, labels)

    def _make_ready(self) -> None:
        """Compute what all plans share, before several threads ask for it."""
        # Each of these is made when it is first asked for.
        _ = self._batches, self._recalibration, self._refit_images and self._refit, self._tuning_steps and self._tuning

    def _executable(self, plan: Plan) -> nn.Module:
        return overwriting(executable(self.network(plan)), self._overwritable)

    def costs(self, plan: Plan) -> Metrics:
        """The costs of a plan, with an accuracy of nan.

        Latency and energy come from the device, the others are counted.
        """
        if plan.hash not in self._costs:
            self._costs[plan.hash] = self._count(plan)
        return self._costs[plan.hash]

    def bounds(self) -> CostBounds:
        """What plans must cost at least."""
        return CostBounds(self._realiser, self._bank.space, self.device)

    def layer_costs(self, plan: Plan) -> dict[str, dict[str, float]]:
        """What each site costs under a plan: its `latency_ms` on the device and its `parameters`.

        The linear layers of a replaced head cost nothing; the head stands for them.
        """
        overhead_ms = self.device.cost([]).latency_ms.value
        costs = {site.name: {"latency_ms": 0.0, "parameters": 0.0} for site in self._bank.space.sites}
        head = next((site for site in self._bank.space.sites if site.kind == "head"), None)
        has_head = head is not None and plan[head.name] != KEEP
        for operator in self._operators(plan):
            name = head.name if head and has_head and operator.module in head.layers else operator.module
            if name in costs:
                costs[name]["latency_ms"] += self.device.cost(operator.specs).latency_ms.value - overhead_ms
                costs[name]["parameters"] += sum(spec.parameters for spec in operator.specs)
        for site in self._bank.space.sites:
            variant = self._bank.variant(site, plan)
            if variant is not None and costs[site.name]["parameters"]:
                costs[site.name]["parameters"] = variant.parameters  # pruned weights do not count
        return costs

    def _operators(self, plan: Plan) -> tuple[Operator, ...]:
        return with_conversions(self._realiser.operators(plan), self.device.keeps_integers)

    def _count(self, plan: Plan) -> Metrics:
        operators = self._operators(plan)
        specs = [spec for operator in operators for spec in operator.specs]
        cost = self.device.cost(specs)
        parameters, stored = self._sizes.count(plan)
        graph = self._survey.graph
        activations = peak_activation_bytes(operators, graph.input_shape, self._realiser.output(plan))
        memory = activations + weight_bytes(specs)
        return Metrics(
            accuracy=float("nan"),
            latency_ms=cost.latency_ms,
            energy_mj=cost.energy_mj,
            storage_bytes=_counted(stored, "tensors of the model file"),
            peak_memory_bytes=_counted(memory, "weights and live activations"),
            macs=_counted(sum(spec.macs for spec in specs), "operators"),
            parameters=_counted(parameters, "weights and biases"),
        )


def _counted(value: float, on: str) -> Estimate:
    return Estimate(value, 0.0, "modelled", f"counted: {on}")
