"""What an engine spends beside its operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .timing import summarise, time_alternating

__all__ = ["Overhead"]

#: The least disturbed of so many tries counts.
_TRIES = 5

#: Nothing takes less than a nanosecond, whatever a subtraction says.
_LEAST_MS = 1e-6


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
        tries = [time_alternating([one, many], max(1, rounds // _TRIES)) for _ in range(_TRIES)]
        short, long = min(([summarise(row).median_ms for row in samples] for samples in tries), key=min)
        operator_ms = max(long - short, 0.0) / extra
        return cls(0.0, operator_ms).beside(short)

    def beside(self, trivial_ms: float) -> Overhead:
        """The overhead while a call of one trivial operator took `trivial_ms`."""
        return replace(self, call_ms=max(trivial_ms - self.operator_ms, 0.0))

    def net(self, samples_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Milliseconds of an operator inside a network, from those of a call; no less than starting it takes.

        Args:
            samples_ms: Shape (rounds,).
        """
        return np.maximum(samples_ms - self.call_ms, max(self.operator_ms, _LEAST_MS))
