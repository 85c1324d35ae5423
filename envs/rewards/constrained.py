"""Weighted savings, and a penalty for every bound that is broken."""

import math
from dataclasses import dataclass

from typing_extensions import override

from ...evaluation.demand import Demand
from ...evaluation.metrics import Metrics
from .reward import Reward

__all__ = ["ConstrainedReward"]


@dataclass(frozen=True)
class ConstrainedReward(Reward):
    """R = sum w log10(original / cost) + w_A (A - A_original) / range - penalty sum hinge.

    Logarithms make the step from 4 to 8 times smaller worth as much as that from 1 to 2. The hinge of a budget is its
    excess as a share of the budget, that of the accuracy floor the missing accuracy as a share of the range: slack
    earns nothing. The weights count in proportion to their sum.

    Attributes:
        accuracy_range: Accuracy whose loss weighs as much as a tenfold saving earns, 0 to 1.
        penalty: Weight of the hinges.
        floor: The least reward given, so that no plan drowns the differences between the others.
    """

    accuracy_range: float = 0.1
    penalty: float = 2.0
    floor: float = -2.0

    @override
    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        weights = demand.weights
        total = weights.accuracy + sum(weights.costs.values())
        reward = weights.accuracy / total * (metrics.accuracy - baseline.accuracy) / self.accuracy_range
        for name, weight in weights.costs.items():
            reward += weight / total * math.log10(baseline.cost(name) / max(metrics.cost(name), 1e-12))
        excesses = demand.excesses(metrics, baseline)
        missing = max(0.0, demand.accuracy_floor(baseline) - metrics.accuracy) / self.accuracy_range
        hinges = missing + sum(excess for name, excess in excesses.items() if name != "accuracy")
        return max(self.floor, reward - self.penalty * hinges)
