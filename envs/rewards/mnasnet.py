"""MnasNet's reward: accuracy times a soft power of the costs."""

from dataclasses import dataclass

from typing_extensions import override

from ...evaluation.demand import Demand
from ...evaluation.metrics import Metrics
from .reward import Reward

__all__ = ["MnasNetReward"]


@dataclass(frozen=True)
class MnasNetReward(Reward):
    """R = A prod (C / C_target)^w (Tan et al. 2019, arXiv 1807.11626, eq. 2 with alpha = beta).

    The target of a cost is its budget, or the original's cost where there is none; costs without a weight in the
    demand and without a budget play no part.

    Attributes:
        exponent: w, below 0.
    """

    exponent: float = -0.07

    @override
    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        reward = metrics.accuracy
        for name in dict.fromkeys([*demand.weights.costs, *demand.budgets]):
            target = demand.budgets.get(name, baseline.cost(name))
            reward *= (max(metrics.cost(name), 1e-12) / target) ** self.exponent
        return reward
