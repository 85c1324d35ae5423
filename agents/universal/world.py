"""A network on a device in which walks cost nothing: accuracy as it was learnt, costs as they are."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...envs.problem import Problem
from ...evaluation.archive import Archive
from ...evaluation.demand import Demand
from ...evaluation.metrics import COSTS, Metrics
from ..dyna.codes import Walks
from ..dyna.costs import CostTables
from ..dyna.surrogate import AccuracySurrogate, FeatureMap, logit
from .walk_batch import Ground

__all__ = ["AccuracyModel", "World", "learnt_accuracy"]

Floats = NDArray[np.float64]

#: Accuracies of canonical walks, shape (walks,).
AccuracyModel = Callable[[Walks], Floats]

_MAXIMUM = "peak_memory_bytes"


def learnt_accuracy(
    problem: Problem, archive: Archive, rng: np.random.Generator, margin: float = 0.01
) -> AccuracyModel:
    """What the evaluated plans of a network tell of its others.

    Args:
        problem: Of the network.
        archive: Evaluated plans of its space.
        rng: Draws what features are standardised on.
        margin: Accuracy that a plan may have beyond the highest seen, 0 to 1.
    """
    ground = Ground(problem)
    evaluations = list(archive)
    walks = np.array([problem.space.indices(e.plan) for e in evaluations], np.int64)
    accuracies = np.array([e.metrics.accuracy for e in evaluations])
    surrogate = AccuracySurrogate(FeatureMap(ground.tables, True, rng))
    surrogate.fit(walks, logit(accuracies))
    highest = min(1.0, float(accuracies.max()) + margin)

    def accuracy(asked: Walks) -> Floats:
        return np.minimum(1 / (1 + np.exp(-surrogate.predict(asked)[0])), highest)

    return accuracy


class World:
    """Rewards of walks under any demand without an evaluation.

    Costs come from tables (`CostTables`) where these are exact, else from the evaluator. Peak memory is no sum of
    terms; demands that name it are not for training.

    Args:
        problem: Of the network and the device; its reward judges, its demand plays no part.
        accuracy: Of its walks.
        rng: For the cost tables.

    Attributes:
        ground: What its walks share.
    """

    def __init__(self, problem: Problem, accuracy: AccuracyModel, rng: np.random.Generator) -> None:
        self.ground = Ground(problem)
        self._problem = problem
        self._accuracy = accuracy
        additive = np.array([name != _MAXIMUM for name in COSTS])
        self._costs = CostTables(self._counted, self.ground.tables, rng, additive)
        self.is_exact = bool(self._costs.exact[additive].all())
        self._known: dict[bytes, Metrics] = {}

    def _counted(self, walk: Sequence[int]) -> Floats:
        metrics = self._problem.costs(walk)
        return np.array([metrics.cost(name) for name in COSTS])

    def metrics(self, walks: Walks) -> list[Metrics]:
        """Costs and learnt accuracy of canonical walks."""
        keys = [walk.tobytes() for walk in walks]
        rows = list({key: row for row, key in enumerate(keys) if key not in self._known}.values())
        if rows:
            new = walks[rows]
            costs = self._costs(new) if self.is_exact else np.array([self._counted(walk) for walk in new.tolist()])
            for row, values, accuracy in zip(rows, costs, self._accuracy(new).tolist(), strict=True):
                self._known[keys[row]] = self._made(values, accuracy)
        return [self._known[key] for key in keys]

    def _made(self, values: Floats, accuracy: float) -> Metrics:
        original = self._problem.baseline
        estimates = (replace(getattr(original, name), value=float(v)) for name, v in zip(COSTS, values, strict=True))
        return Metrics(accuracy, *estimates)

    def rewards(self, walks: Walks, demand: Demand) -> Floats:
        """Under a demand, shape (walks,)."""
        judge, original = self._problem.reward, self._problem.baseline
        return np.array([judge(metrics, original, demand) for metrics in self.metrics(walks)])
