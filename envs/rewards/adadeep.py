"""AdaDeep's reward: weighted gains and the slack of the budgets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from typing_extensions import override

from ...evaluation.demand import Demand
from ...evaluation.metrics import Metrics
from .reward import Reward

__all__ = ["AdaDeepReward"]


@dataclass(frozen=True)
class AdaDeepReward(Reward):
    """R = mu1 N(A - A_min) + sum mu2 N(C_max - C) + sum lambda N(C_budget - C) (Liu et al. 2021, arXiv 2006.04432).

    N divides by the largest value that the difference can have: A - A_min by the original's, C_max - C by the
    original's cost, C_budget - C by the budget. The equation is recalled, not checked against the paper. It goes on
    paying for slack that nobody asked for and guarantees no budget; `constrained` mends that.

    Attributes:
        accuracy_range: The original's accuracy minus A_min where the demand has no floor, 0 to 1.
        multiplier: lambda of budgets that `multipliers` does not name.
        multipliers: Cost name -> lambda.
    """

    accuracy_range: float = 0.1
    multiplier: float = 0.5
    multipliers: Mapping[str, float] = field(default_factory=dict)

    @override
    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        weights = demand.weights
        total = weights.accuracy + sum(weights.costs.values())
        lowest = baseline.accuracy - self.accuracy_range
        reward = weights.accuracy / total * (metrics.accuracy - lowest) / self.accuracy_range
        for name, weight in weights.costs.items():
            reward += weight / total * (1 - metrics.cost(name) / baseline.cost(name))
        for name, budget in demand.budgets.items():
            reward += self.multipliers.get(name, self.multiplier) * (1 - metrics.cost(name) / budget)
        return reward
