"""What predicts the energy of operators."""

from collections.abc import Sequence
from typing import Protocol

from ...graph.opspec import OpSpec
from ..cost import Estimate

__all__ = ["EnergySource"]


class EnergySource(Protocol):
    """An equation, or power times time; one class and one YAML file in `conf/energy/` each."""

    def estimate(self, ops: Sequence[OpSpec], latency_ms: Estimate) -> Estimate:
        """Millijoules of executing `ops` once, with what they come from.

        Args:
            ops: The operators.
            latency_ms: How long they take.
        """
