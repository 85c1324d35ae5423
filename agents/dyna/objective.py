"""What simulated walks are worth: the reward of a predicted accuracy and of exact costs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...envs.problem import Problem
from ...evaluation.metrics import COSTS, Metrics
from ...hw_models.cost import Estimate
from .codes import Walks, WalkTables
from .costs import CostTables

__all__ = ["Objective", "relevant_costs"]

Floats = NDArray[np.float64]


def relevant_costs(problem: Problem) -> tuple[str, ...]:
    """Names of the costs that the demand weighs or bounds; latency and storage where it names none."""
    named = {*problem.demand.weights.costs, *problem.demand.budgets}
    return tuple(name for name in COSTS if name in named) or ("latency_ms", "storage_bytes")


#: Costs that are no sums over operators: no tables of few sites could be exact.
_MAXIMA = ("peak_memory_bytes",)


#: Random walks whose rewards must be the same with the tables' costs as with the evaluator's.
_TRIED = 32


class Objective:
    """Rewards of walks without an evaluation.

    Costs come from tables where these are exact in all that the demand names and the reward reads, from the evaluator
    elsewhere.

    Args:
        problem: Whose reward is meant.
        tables: Of its space.
        rng: For the cost tables.

    Attributes:
        is_exact: Whether the tables serve.
    """

    def __init__(self, problem: Problem, tables: WalkTables, rng: np.random.Generator) -> None:
        self._problem = problem
        self._names = relevant_costs(problem)
        self._costs = CostTables(self._exact, tables, rng, np.array([name not in _MAXIMA for name in COSTS]))
        self._originals = [getattr(problem.baseline, name) for name in COSTS]
        self._known: dict[bytes, Metrics] = {}
        self.is_exact = self._is_exact(tables.random(_TRIED, np.random.default_rng(0)))

    def _is_exact(self, walks: Walks) -> bool:
        """Whether the tables hold what the demand names, and the reward cannot tell them from the evaluator."""
        exact = dict(zip(COSTS, self._costs.exact, strict=True))
        if not all(exact[name] for name in self._names):
            return False
        accuracy, judge = self._problem.baseline.accuracy, self._problem.judge
        made = [judge(self._made(values).with_accuracy(accuracy)) for values in self._costs(walks)]
        true = [judge(self._problem.costs(walk).with_accuracy(accuracy)) for walk in walks.tolist()]
        return bool(np.allclose(made, true, rtol=1e-9, atol=1e-9))

    def _exact(self, walk: Sequence[int]) -> Floats:
        metrics = self._problem.costs(walk)
        return np.array([metrics.cost(name) for name in COSTS])

    def costs(self, walks: Walks) -> Floats:
        """Costs from the tables as shares of the original's, one column per cost that matters."""
        original = np.array([self._problem.baseline.cost(name) for name in self._names])
        columns = [COSTS.index(name) for name in self._names]
        return self._costs(walks)[:, columns] / original  # type: ignore[no-any-return]

    def metrics(self, walks: Walks) -> list[Metrics]:
        """Metrics with an accuracy of nan."""
        keys = [walk.tobytes() for walk in walks]
        new = [row for row, key in enumerate(keys) if key not in self._known]
        if new:
            tabled = self._costs(walks[new]) if self.is_exact else None
            for i, row in enumerate(new):
                self._known[keys[row]] = (
                    self._problem.costs(walks[row].tolist()) if tabled is None else self._made(tabled[i])
                )
        return [self._known[key] for key in keys]

    def _made(self, values: Floats) -> Metrics:
        # dataclasses.replace takes three times as long, and a search makes tens of thousands of these.
        pairs = zip(self._originals, values.tolist(), strict=True)
        return Metrics(float("nan"), *(Estimate(value, o.std, o.kind, o.on, o.unit) for o, value in pairs))

    def rewards(self, walks: Walks, accuracies: Floats) -> Floats:
        """The rewards if the walks had these accuracies, shape (walks,)."""
        pairs = zip(self.metrics(walks), accuracies.tolist(), strict=True)
        return np.array([self._problem.judge(metrics.with_accuracy(accuracy)) for metrics, accuracy in pairs])
