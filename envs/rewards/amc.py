"""AMC's reward: the error, weighted by the size of the network."""

import math
from dataclasses import dataclass

from typing_extensions import override

from ...errors import EspalierError
from ...evaluation.demand import Demand
from ...evaluation.metrics import COSTS, Metrics
from .reward import Reward

__all__ = ["AmcReward"]


@dataclass(frozen=True)
class AmcReward(Reward):
    """R = -error log(cost) (He et al. 2018, arXiv 1802.03494, eq. 4 with FLOPs).

    The demand's weights and budgets play no part: the equation has none.

    Attributes:
        cost: Which cost; one of the metrics' costs, "macs" in the paper.
    """

    cost: str = "macs"

    def __post_init__(self) -> None:
        if self.cost not in COSTS:
            raise EspalierError(f"reward.cost must be one of {', '.join(COSTS)}, got {self.cost!r}")

    @override
    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        return -(1 - metrics.accuracy) * math.log(max(metrics.cost(self.cost), 1e-9) + 1)
