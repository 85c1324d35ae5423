"""How far predicted latencies were from measured ones, over a sample of what a search evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ..compression.choice import KEEP
from ..compression.plan import Plan
from ..evaluation.archive import Evaluation
from ..hw_models.cost import Estimate
from .network_timing import NetworkTimer

__all__ = ["PredictedPlan", "PredictionReport", "measured_sample", "spread_evaluations"]

#: What people call close; the share of plans within it is reported.
_CLOSE = 0.1

#: Fewer plans have no order to speak of.
_FEWEST_RANKED = 4


@dataclass(frozen=True, slots=True)
class PredictedPlan:
    """One plan.

    Attributes:
        plan: The plan.
        predicted_ms: What the search believed.
        std_ms: How sure it was.
        measured_ms: What the whole network took.
    """

    plan: Plan
    predicted_ms: float
    std_ms: float
    measured_ms: float

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted_ms / self.measured_ms - 1


@dataclass(frozen=True)
class PredictionReport:
    """A sample of plans, the winner not among them.

    Attributes:
        plans: The fastest first, as predicted.
        original: The original, measured beside them: what its latency is off by is common to all plans where the
            machine has become faster or slower since the table was measured.
    """

    plans: tuple[PredictedPlan, ...]
    original: PredictedPlan

    def to_dict(self) -> dict[str, Any]:
        """Errors in per cent and the plans themselves, ready for JSON."""
        errors = np.array([plan.error for plan in self.plans])
        ratios = (1 + errors) / (1 + self.original.error) - 1
        return {
            "median_error_percent": 100 * float(np.median(errors)),
            "worst_error_percent": 100 * float(errors[np.argmax(np.abs(errors))]),
            "within_10_percent": float(np.mean(np.abs(errors) <= _CLOSE)),
            "original_error_percent": 100 * self.original.error,
            "ratio_median_error_percent": 100 * float(np.median(ratios)),
            "ratio_within_10_percent": float(np.mean(np.abs(ratios) <= _CLOSE)),
            "spearman": self._spearman(),
            "plans": [
                {
                    "plan": plan.plan.hash,
                    "choices": {site: choice.to_dict() for site, choice in plan.plan if choice != KEEP},
                    "predicted_ms": plan.predicted_ms,
                    "std_ms": plan.std_ms,
                    "measured_ms": plan.measured_ms,
                }
                for plan in self.plans
            ],
        }

    def _spearman(self) -> float | None:
        pairs = np.array([(plan.predicted_ms, plan.measured_ms) for plan in self.plans])
        if len(pairs) < _FEWEST_RANKED or len(np.unique(pairs[:, 0])) == 1:
            return None
        return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


def measured_sample(
    evaluations: Sequence[Evaluation], winner: Evaluation, original: Estimate, count: int, timer: NetworkTimer
) -> PredictionReport | None:
    """Measure some of the plans that a search evaluated, and the original beside them.

    Args:
        evaluations: Those of the search.
        winner: Is measured elsewhere, and left out.
        original: Latency of the original as the search saw it.
        count: How many plans.
        timer: Measures.

    Returns:
        None where no other plan was evaluated or none is asked for.
    """
    sample = spread_evaluations([e for e in evaluations if e.plan.hash != winner.plan.hash], count)
    if not sample:
        return None
    predicted = {timer.original: original} | {e.plan: e.metrics.latency_ms for e in sample}
    measured = dict(zip(predicted, timer.measure(list(predicted), "checking predictions"), strict=True))
    rows = {plan: PredictedPlan(plan, p.value, p.std, measured[plan].latency_ms) for plan, p in predicted.items()}
    return PredictionReport(tuple(rows[evaluation.plan] for evaluation in sample), rows[timer.original])


def spread_evaluations(evaluations: Sequence[Evaluation], count: int) -> list[Evaluation]:
    """As many of the evaluations, at even ranks of their predicted latency, each plan once."""
    unique = {evaluation.plan.hash: evaluation for evaluation in evaluations}
    ranked = sorted(unique.values(), key=lambda evaluation: evaluation.metrics.latency_ms.value)
    if count <= 0 or not ranked:
        return []
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return [ranked[place] for place in places]
