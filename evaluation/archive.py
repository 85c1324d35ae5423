"""Everything a search evaluated, and the plans that no other beats in every respect."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..compression.plan import Plan
from .metrics import Metrics

__all__ = ["Archive", "Evaluation", "pareto_front"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluated plan.

    Attributes:
        index: How many plans were evaluated before it in this search.
        plan: The plan.
        metrics: Accuracy on the search split, and costs.
        reward: What the reward made of the metrics.
        feasible: Whether every bound of the demand holds.
        seconds: How long the evaluation took, when it was done.
        repeated: Whether it was answered from an earlier run.
    """

    index: int
    plan: Plan
    metrics: Metrics
    reward: float
    feasible: bool
    seconds: float
    repeated: bool

    def to_dict(self) -> dict[str, Any]:
        """One line of `evaluations.jsonl`."""
        return {
            "index": self.index,
            "plan_hash": self.plan.hash,
            "reward": self.reward,
            "feasible": self.feasible,
            "seconds": self.seconds,
            "repeated": self.repeated,
            "metrics": self.metrics.to_dict(),
            "plan": self.plan.to_dict(),
        }


class Archive:
    """Evaluations in the order they were made, each plan once."""

    def __init__(self) -> None:
        self._by_hash: dict[str, Evaluation] = {}

    def __len__(self) -> int:
        return len(self._by_hash)

    def __iter__(self) -> Iterator[Evaluation]:
        return iter(self._by_hash.values())

    def __contains__(self, plan: object) -> bool:
        return isinstance(plan, Plan) and plan.hash in self._by_hash

    def add(self, evaluation: Evaluation) -> None:
        """Keep an evaluation; the first of a plan stays."""
        self._by_hash.setdefault(evaluation.plan.hash, evaluation)

    def get(self, plan: Plan) -> Evaluation | None:
        """The evaluation of a plan, if it was made."""
        return self._by_hash.get(plan.hash)

    def best(self, count: int = 1) -> list[Evaluation]:
        """The evaluations of highest reward, feasible ones first, the earlier first among equals."""
        return sorted(self, key=lambda e: (not e.feasible, -e.reward, e.index))[:count]

    def front(self, cost: str = "latency_ms") -> list[Evaluation]:
        """The evaluations that no other beats in accuracy and `cost`, by rising cost."""
        evaluations = list(self)
        points = [(-e.metrics.accuracy, e.metrics.cost(cost)) for e in evaluations]
        chosen = [evaluations[i] for i in pareto_front(points)]
        return sorted(chosen, key=lambda e: e.metrics.cost(cost))


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other is at least as good as in every coordinate; less is better.

    Of equal points the first is kept.
    """
    order = sorted(range(len(points)), key=lambda i: (*points[i], i))
    front: list[int] = []
    for i in order:
        if not any(all(a <= b for a, b in zip(points[j], points[i], strict=True)) for j in front):
            front.append(i)
    return sorted(front)
