"""What an engine spends beside its operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .timing import Timing, summarise, time_alternating

__all__ = ["Overhead"]


@dataclass(frozen=True, slots=True)
class Overhead:
    """What is subtracted from the measurement of a single operator.

    Attributes:
        call_ms: Milliseconds of a call, without any operator.
        operator_ms: Milliseconds of starting one operator.
    """

    call_ms: float
    operator_ms: float

    @classmethod
    def measured(cls, one: Callable[[], object], many: Callable[[], object], extra: int, rounds: int) -> Overhead:
        """Compare a call of one trivial operator with one of several.

        Args:
            one: A call of one.
            many: A call of several.
            extra: How many more the second has.
            rounds: Samples of each.
        """
        short, long = (summarise(row).median_ms for row in time_alternating([one, many], rounds))
        operator_ms = max(long - short, 0.0) / extra
        return cls(max(short - operator_ms, 0.0), operator_ms)

    def net_ms(self, timing: Timing) -> float:
        """Milliseconds of an operator inside a network; no less than starting it takes."""
        return max(timing.median_ms - self.call_ms, self.operator_ms)
