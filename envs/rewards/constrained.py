"""Weighted savings, and a penalty for every bound that is broken."""

import math
from dataclasses import dataclass

from typing_extensions import override

from ...evaluation.demand import Demand
from ...evaluation.metrics import Metrics
from .reward import Reward

__all__ = ["ConstrainedReward", "savings"]


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
        broken = demand.violations(metrics, baseline, self.accuracy_range)
        hinges = sum(max(0.0, value) for value in broken.values())
        return max(self.floor, savings(metrics, baseline, demand, self.accuracy_range) - self.penalty * hinges)


def savings(metrics: Metrics, baseline: Metrics, demand: Demand, accuracy_range: float) -> float:
    """The demand's weighted logarithmic savings and accuracy, without regard to bounds.

    Args:
        metrics: Of the plan.
        baseline: Of the original.
        demand: Whose weights count, in proportion to their sum.
        accuracy_range: Accuracy whose loss weighs as much as a tenfold saving earns, 0 to 1.
    """
    weights = demand.weights
    total = weights.accuracy + sum(weights.costs.values())
    reward = weights.accuracy / total * (metrics.accuracy - baseline.accuracy) / accuracy_range
    for name, weight in weights.costs.items():
        reward += weight / total * math.log10(baseline.cost(name) / max(metrics.cost(name), 1e-12))
    return reward
