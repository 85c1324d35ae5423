"""Power that a counter measures while the engine works, times time."""

import time
from collections.abc import Callable, Sequence

from ...errors import EspalierError
from ...graph.opspec import OpSpec
from ..cost import Estimate
from .counter import EnergyCounter, find_counter
from .power_time import PowerTime

__all__ = ["MeasuredPower"]

#: Parts of a measurement of power, whose spread is its uncertainty.
_PARTS = 5


class MeasuredPower:
    """E = P t with the power that the machine takes while the engine computes, idle share included.

    A counter ticks about a thousand times a second, too coarse for single operators; the power of steady work is
    measured once, and each network's energy is that power times its predicted latency.

    Args:
        counter: "auto", "rapl" or "nvml".
        seconds: How long to measure.

    Raises:
        EspalierError: There is no such counter, or the time is not above 0.
    """

    def __init__(self, counter: str = "auto", seconds: float = 1.0) -> None:
        if not seconds > 0:
            raise EspalierError(f"device.energy.seconds must be above 0, got {seconds}")
        self.counter = find_counter(counter)
        self._seconds = seconds
        self._power: PowerTime | None = None

    def prepare(self, call: Callable[[], object]) -> None:
        """Measure the power of steady work, once.

        Args:
            call: The work.

        Raises:
            EspalierError: The counter does not move.
        """
        if self._power is not None:
            return
        watts = [_watts(self.counter, call, self._seconds / _PARTS) for _ in range(_PARTS)]
        mean = sum(watts) / _PARTS
        if mean <= 0:
            raise EspalierError(f"the energy counter ({self.counter.name}) does not move; choose another energy")
        variance = sum((value - mean) ** 2 for value in watts) / (_PARTS - 1)
        self._power = PowerTime(mean, variance**0.5 / mean, f"measured by {self.counter.name}")

    def estimate(self, ops: Sequence[OpSpec], latency_ms: Estimate) -> Estimate:
        """Millijoules of an inference.

        Args:
            ops: The operators.
            latency_ms: How long they take.

        Raises:
            EspalierError: The power was not measured, because the device is not this machine.
        """
        if self._power is None:
            raise EspalierError("energy by a counter needs a device that is measured live, such as device=host")
        return self._power.estimate(ops, latency_ms)


def _watts(counter: EnergyCounter, call: Callable[[], object], seconds: float) -> float:
    """Millijoules per millisecond are watts."""
    before, started = counter.read_mj(), time.perf_counter()
    while time.perf_counter() - started < seconds:
        call()
    return (counter.read_mj() - before) / ((time.perf_counter() - started) * 1e3)
