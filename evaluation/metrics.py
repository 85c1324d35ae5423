"""What is known of a plan: accuracy and costs, each with where it comes from."""

import math
from dataclasses import dataclass
from typing import Any

from ..errors import FormatError
from ..hw_models.cost import Estimate

__all__ = ["COSTS", "Metrics"]

#: Names of the costs; less is better in each.
COSTS = ("latency_ms", "energy_mj", "storage_bytes", "peak_memory_bytes", "macs", "parameters")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Accuracy and costs of one plan or network, at batch size 1.

    Attributes:
        accuracy: Share of right answers, 0 to 1.
        latency_ms: Milliseconds of one inference.
        energy_mj: Millijoules of one inference.
        storage_bytes: Bytes of the model file.
        peak_memory_bytes: Bytes of weights and of the most activations alive at once.
        macs: Multiply-accumulates.
        parameters: Weights and biases, without pruned ones.
    """

    accuracy: float
    latency_ms: Estimate
    energy_mj: Estimate
    storage_bytes: Estimate
    peak_memory_bytes: Estimate
    macs: Estimate
    parameters: Estimate

    def cost(self, name: str) -> float:
        """The value of one of `COSTS`."""
        estimate: Estimate = getattr(self, name)
        return estimate.value

    def with_accuracy(self, accuracy: float) -> "Metrics":
        """The same costs beside another accuracy."""
        # dataclasses.replace takes ten times as long, and searches judge a hundred thousand walks in simulation.
        return Metrics(
            accuracy,
            self.latency_ms,
            self.energy_mj,
            self.storage_bytes,
            self.peak_memory_bytes,
            self.macs,
            self.parameters,
        )

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return {"accuracy": self.accuracy} | {name: getattr(self, name).to_dict() for name in COSTS}

    @classmethod
    def from_dict(cls, values: Any) -> "Metrics":
        """Rebuild what `to_dict` wrote.

        Raises:
            FormatError: A figure is missing or no number.
        """
        try:
            estimates = {name: Estimate(**values[name]) for name in COSTS}
            metrics = cls(accuracy=float(values["accuracy"]), **estimates)
            is_finite = all(math.isfinite(metrics.cost(name)) for name in COSTS)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not a record of metrics: {error!r}") from error
        if not is_finite:
            raise FormatError("not a record of metrics: a cost is not a finite number")
        return metrics

    def ratios(self, original: "Metrics") -> dict[str, float]:
        """For each cost, how many times less than `original`."""
        return {name: original.cost(name) / max(self.cost(name), 1e-12) for name in COSTS}
