"""Weighted savings, with a price for every bound that rises while plans break it."""

from dataclasses import dataclass, field

from typing_extensions import override

from ...errors import EspalierError
from ...evaluation.demand import Demand
from ...evaluation.metrics import Metrics
from .constrained import savings
from .reward import AdaptiveReward

__all__ = ["PrimalDualReward"]


@dataclass
class PrimalDualReward(AdaptiveReward):
    """R = sum w log10(original / cost) + w_A (A - A_original) / range - sum lambda_j g_j, with adapting lambda.

    g_j is how far bound j is broken, as a share of the bound; slack earns nothing, so plans that meet the demand are
    ranked by what they save. After each evaluation lambda_j moves by dual ascent (Bertsekas 1999, sec. 6.2; for
    policies Tessler et al. 2019, arXiv 1805.11074): up by rate * g_j where the bound was broken, down by rate * decay
    * slack where it was met. A bound that costs nothing ends with a price of 0.

    Attributes:
        accuracy_range: Accuracy whose loss weighs as much as a tenfold saving earns, 0 to 1.
        rate: Step of the dual ascent, above 0.
        decay: How much slower prices fall than they rise, 0 to 1.
        initial: Every price at the start, at least 0.
        largest: No price rises above it.
        floor: The least reward given.

    Raises:
        EspalierError: A step or a price is out of range.
    """

    accuracy_range: float = 0.1
    rate: float = 0.5
    decay: float = 0.2
    initial: float = 0.5
    largest: float = 20.0
    floor: float = -4.0
    prices: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.rate > 0 or not 0 <= self.decay <= 1 or not 0 <= self.initial <= self.largest:
            expected = "rate above 0, decay 0 to 1, initial 0 to largest"
            got = f"{self.rate}, {self.decay}, {self.initial} and {self.largest}"
            raise EspalierError(f"reward=primal_dual expects {expected}; got {got}")

    @override
    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        broken = demand.violations(metrics, baseline, self.accuracy_range)
        paid = sum(self.prices.get(name, self.initial) * max(0.0, value) for name, value in broken.items())
        return max(self.floor, savings(metrics, baseline, demand, self.accuracy_range) - paid)

    @override
    def reset(self) -> None:
        self.prices = {}

    @override
    def observe(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> dict[str, float]:
        for name, value in demand.violations(metrics, baseline, self.accuracy_range).items():
            step = value if value > 0 else self.decay * max(value, -1.0)
            moved = self.prices.get(name, self.initial) + self.rate * step
            self.prices[name] = min(max(moved, 0.0), self.largest)
        return {f"price_{name}": price for name, price in self.prices.items()}
