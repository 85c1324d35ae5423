"""Power times time: energy of a device of which only the power is known."""

import math
from collections.abc import Sequence

from ...errors import EspalierError
from ...graph.opspec import OpSpec
from ..cost import Estimate

__all__ = ["PowerTime"]


class PowerTime:
    """E = P t, as if the device always took the same power while it computes: a last resort.

    Args:
        watts: Power while a network runs.
        relative_std: Standard deviation of the power as a share of it.
        source: Where the power is from, such as "the board's data sheet".

    Raises:
        EspalierError: The power is not above 0, or its deviation is negative.
    """

    def __init__(self, watts: float, relative_std: float = 0.0, source: str = "given") -> None:
        if not (watts > 0 and math.isfinite(watts)):
            raise EspalierError(f"device.energy.watts must be above 0, got {watts}")
        if not relative_std >= 0:
            raise EspalierError(f"device.energy.relative_std must be at least 0, got {relative_std}")
        self.watts = watts
        self._relative_std = relative_std
        self._source = source

    def estimate(self, ops: Sequence[OpSpec], latency_ms: Estimate) -> Estimate:  # noqa: ARG002
        """Millijoules of an inference, whose time is what it depends on.

        Args:
            ops: The operators.
            latency_ms: How long they take.
        """
        energy = self.watts * latency_ms.value
        std = math.hypot(self.watts * latency_ms.std, energy * self._relative_std)
        return Estimate(energy, std, "modelled", f"{self.watts:g} W ({self._source}) times latency")
