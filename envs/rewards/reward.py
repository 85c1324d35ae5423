"""What a reward must offer; an author of a new one writes one module and one YAML file."""

from typing import Protocol

from ...evaluation.demand import Demand
from ...evaluation.metrics import Metrics

__all__ = ["Reward"]


class Reward(Protocol):
    """Metrics in, one number out; more is better."""

    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        """Judge a plan.

        Args:
            metrics: Of the plan; its accuracy is on the search split.
            baseline: Of the original network.
            demand: What the user wants.
        """
