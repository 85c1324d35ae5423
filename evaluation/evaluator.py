"""From a plan to its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..compression.plan import Plan
from .metrics import Metrics

__all__ = ["EvaluatedPlan", "Evaluator", "LocalEvaluator"]

EVALUATOR_VERSION = 1


@dataclass(frozen=True, slots=True)
class EvaluatedPlan:
    """What an evaluator answers.

    Attributes:
        metrics: Accuracy and costs.
        seconds: How long the evaluation took, when it was done.
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
