"""What a reward must offer; an author of a new one writes one module and one YAML file."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ...evaluation.demand import Demand
from ...evaluation.metrics import Metrics

__all__ = ["AdaptiveReward", "Reward"]


class Reward(Protocol):
    """Metrics in, one number out; more is better."""

    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        """Judge a plan.

        Args:
            metrics: Of the plan; its accuracy is on the search split.
            baseline: Of the original network.
            demand: What the user wants.
        """


@runtime_checkable
class AdaptiveReward(Reward, Protocol):
    """A reward that learns during a search; plans that meet the demand must keep their order."""

    def reset(self) -> None:
        """Forget everything: a search begins."""

    def observe(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> Mapping[str, float]:
        """Learn from an evaluation, in the order in which they are made.

        Args:
            metrics: Of a plan that was just judged.
            baseline: Of the original network.
            demand: What the user wants.

        Returns:
            What it has learnt, by name.
        """
