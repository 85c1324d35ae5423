"""What the user wants: how much each metric matters, and the budgets."""

import math
from dataclasses import dataclass, field
from functools import cached_property

from ..errors import DemandError
from .metrics import Metrics

__all__ = ["BUDGETS", "Demand", "Weights"]

#: Costs that can have a budget.
BUDGETS = ("latency_ms", "energy_mj", "storage_bytes", "peak_memory_bytes", "macs")


@dataclass(frozen=True)
class Weights:
    """How much each metric matters, 0 for not at all; only their proportions count.

    Attributes:
        accuracy: Accuracy kept.
        latency: Latency saved.
        energy: Energy saved.
        storage: Storage saved.
        peak_memory: Peak memory saved.
        macs: Multiply-accumulates saved.
    """

    accuracy: float = 0.5
    latency: float = 0.25
    energy: float = 0.0
    storage: float = 0.25
    peak_memory: float = 0.0
    macs: float = 0.0

    def __post_init__(self) -> None:
        values = vars(self)
        if not all(0 <= value < math.inf for value in values.values()) or sum(values.values()) == 0:
            raise DemandError(f"demand.weights must be finite, at least 0 and not all 0, got {values}")

    @cached_property
    def costs(self) -> dict[str, float]:
        """Cost name -> weight, for the weights above 0."""
        named = {
            "latency_ms": self.latency,
            "energy_mj": self.energy,
            "storage_bytes": self.storage,
            "peak_memory_bytes": self.peak_memory,
            "macs": self.macs,
        }
        return {name: weight for name, weight in named.items() if weight > 0}


@dataclass(frozen=True)
class Demand:
    """Weights and budgets; a budget that is None does not bind.

    Attributes:
        weights: How much each metric matters.
        max_accuracy_drop_points: Percentage points of accuracy that may be lost against the original, 0 to 100.
        min_accuracy: Accuracy that must be kept, 0 to 1.
        latency_ms: Budget of milliseconds per inference.
        energy_mj: Budget of millijoules per inference.
        storage_bytes: Budget of the model file.
        peak_memory_bytes: Budget of memory.
        macs: Budget of multiply-accumulates.
    """

    weights: Weights = field(default_factory=Weights)
    max_accuracy_drop_points: float | None = 1.0
    min_accuracy: float | None = None
    latency_ms: float | None = None
    energy_mj: float | None = None
    storage_bytes: float | None = None
    peak_memory_bytes: float | None = None
    macs: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.budgets.items():
            # Not a number is no limit either: no comparison with it holds.
            if not limit > 0:
                raise DemandError(f"demand.{name} must be above 0, got {limit}")
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise DemandError(f"demand.min_accuracy is a share from 0 to 1, got {self.min_accuracy}")
        drop = self.max_accuracy_drop_points
        if drop is not None and not 0 <= drop <= 100:  # percentage points
            raise DemandError(f"demand.max_accuracy_drop_points must be percentage points from 0 to 100, got {drop}")

    @cached_property
    def budgets(self) -> dict[str, float]:
        """Cost name -> budget, for the budgets that bind."""
        limits = {name: getattr(self, name) for name in BUDGETS}
        return {name: float(limit) for name, limit in limits.items() if limit is not None}

    def accuracy_floor(self, baseline: Metrics) -> float:
        """The least accuracy that is acceptable; 0 when there is no bound."""
        floors = [0.0]
        if self.min_accuracy is not None:
            floors.append(self.min_accuracy)
        if self.max_accuracy_drop_points is not None:
            floors.append(baseline.accuracy - self.max_accuracy_drop_points / 100)
        return max(floors)

    def excesses(self, metrics: Metrics, baseline: Metrics) -> dict[str, float]:
        """How far each bound is broken, as a share of the bound; 0 where it holds.

        The accuracy floor appears as "accuracy".
        """
        floor = self.accuracy_floor(baseline)
        missing = {"accuracy": max(0.0, floor - metrics.accuracy) / floor} if floor > 0 else {}
        over = {name: max(0.0, metrics.cost(name) / limit - 1) for name, limit in self.budgets.items()}
        return missing | over

    def violations(self, metrics: Metrics, baseline: Metrics, accuracy_range: float) -> dict[str, float]:
        """How far each bound is broken (above 0) or how much slack it has (below 0).

        Args:
            metrics: Of a plan.
            baseline: Of the original.
            accuracy_range: What missing accuracy is measured in, 0 to 1; costs are measured in their budgets.
        """
        floor = self.accuracy_floor(baseline)
        missing = {"accuracy": (floor - metrics.accuracy) / accuracy_range} if floor > 0 else {}
        return missing | {name: metrics.cost(name) / limit - 1 for name, limit in self.budgets.items()}

    def is_met(self, metrics: Metrics, baseline: Metrics) -> bool:
        """Whether every bound holds."""
        # An accuracy counted on few images equals its floor only up to rounding.
        return all(excess <= 1e-9 for excess in self.excesses(metrics, baseline).values())
