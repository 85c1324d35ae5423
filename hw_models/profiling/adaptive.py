"""Sampling for as long as it takes: each call until the interval of its median is tight."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .timing import Call, relative_half_width, sample_ms, warmed_up

__all__ = ["Sampling", "time_until_tight"]

#: Rounds between two looks at the intervals.
_STRIDE = 5

#: Of what calling the engine takes, which every inference pays: no sum of operators is worse for so little.
_NEGLIGIBLE = 0.02


@dataclass(frozen=True, slots=True)
class Sampling:
    """How long to go on sampling.

    Attributes:
        rounds: Samples that are always taken; at least 1.
        max_rounds: Samples after which a call is given up as it is; at least `rounds`.
        tolerance: Half the width of the 95 % interval of the median, as a share of the median, that is tight enough.
    """

    rounds: int = 15
    max_rounds: int = 45
    tolerance: float = 0.05

    def is_settled(self, samples: NDArray[np.float64], call_ms: float = 0.0) -> bool:
        """Whether the interval of these samples' median is tight.

        Args:
            samples: Milliseconds, shape (rounds,).
            call_ms: What calling the engine takes; an interval of a fiftieth of it on either side is tight, too.
        """
        return self.is_tight(relative_half_width(samples), float(np.median(samples)), call_ms)

    def is_tight(self, half_width: float, median_ms: float, call_ms: float = 0.0) -> bool:
        """The same from an interval's half width, a share of the median."""
        return half_width * median_ms <= max(self.tolerance * median_ms, _NEGLIGIBLE * call_ms)


def time_until_tight(calls: Sequence[Call], sampling: Sampling, warmup: int = 2) -> list[NDArray[np.float64]]:
    """Time several calls in turn; those whose interval is tight drop out, the others go on.

    Whoever stops when an interval looks tight stops a little too early on average; `sampling.rounds` bounds by how
    much.

    Args:
        calls: What to time.
        sampling: When to stop.
        warmup: Calls of each before anything is measured.

    Returns:
        Milliseconds per call, one array of samples for each.
    """
    repetitions = [warmed_up(call, warmup) for call in calls]
    samples: list[list[float]] = [[] for _ in calls]
    unsettled, turns = list(range(len(calls))), sampling.rounds
    while unsettled and turns > 0:
        for _ in range(turns):
            for row in unsettled:
                samples[row].append(sample_ms(calls[row], repetitions[row]))
        taken = len(samples[unsettled[0]])
        unsettled = [row for row in unsettled if not sampling.is_settled(np.array(samples[row]))]
        turns = min(_STRIDE, sampling.max_rounds - taken)
    return [np.array(row) for row in samples]
