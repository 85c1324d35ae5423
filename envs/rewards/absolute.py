"""TuNAS's reward: accuracy minus the distance to a target."""

from dataclasses import dataclass

from typing_extensions import override

from ...errors import DemandError
from ...evaluation.demand import Demand
from ...evaluation.metrics import Metrics
from .reward import Reward

__all__ = ["AbsoluteReward"]


@dataclass(frozen=True)
class AbsoluteReward(Reward):
    """R = A + beta |T / T_target - 1| (Bender et al. 2020, arXiv 2008.06120, eq. 2), summed over the budgets.

    Being under a budget counts as much against a plan as being over it, so the search ends close to the targets.

    Attributes:
        beta: Below 0.
    """

    beta: float = -0.07

    @override
    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        if not demand.budgets:
            raise DemandError("reward=absolute aims at budgets: set at least one, such as demand.latency_ms=2")
        distances = (abs(metrics.cost(name) / budget - 1) for name, budget in demand.budgets.items())
        return metrics.accuracy + self.beta * sum(distances)
