"""Timing operators so that they can be summed, and whole networks: robust against the machine."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .adaptive import Sampling, time_until_tight
from .overhead import Overhead
from .steady import Passes
from .timing import summarise

__all__ = ["OperatorTimes", "Samples", "is_enough"]

#: Operators that take turns: many enough for a disturbance to hit several of them, few enough to stay in the caches.
_GROUP = 8

#: Each operator is prepared and measured so often, at different times; one bad one is outvoted.
_PASSES = 3

#: After so many operators their passes are complete, so that whoever is interrupted loses no more than these.
_CHUNK = 20 * _GROUP

Call = Callable[[], object]
Item = TypeVar("Item")

#: Milliseconds of an operator, what a call takes subtracted, or of a network; shape (rounds,).
Samples = NDArray[np.float64]


class OperatorTimes(Generic[Item]):
    """Times operators in passes, each in the company of a trivial call that tells what calling takes right then.

    Args:
        items: The operators.
        trivial: A call of an operator that does nothing.
        overhead: What starting an operator takes; None for whole networks, whose calls count.
        sampling: How often to measure.

    Attributes:
        turns: How many groups are measured at least.
        done: How many of them were; slow and uncertain ones come again.
    """

    def __init__(self, items: Sequence[Item], trivial: Call, overhead: Overhead | None, sampling: Sampling) -> None:
        self._items = items
        self._trivial = trivial
        self._overhead = overhead
        self._sampling = sampling
        self._passes: Passes[Item, Samples] = Passes(_GROUP)
        self._unsettled: dict[Item, None] = {}
        self.turns = _PASSES * math.ceil(len(items) / _GROUP)
        self.done = 0

    def measure(self, prepare: Callable[[Item], Call]) -> Iterator[dict[Item, Samples]]:
        """Measure group by group; operators whose median stays uncertain come again.

        Args:
            prepare: Makes an operator ready; is called anew each time.

        Yields:
            Everything that was sampled so far of the operators of one group.
        """
        rounds = _rounds_of_a_pass(self._sampling)
        for number, group in self._schedule(rounds):
            calls = [self._trivial, *map(prepare, group)]
            reference, *rows = time_until_tight(calls, Sampling(rounds, rounds, self._sampling.tolerance))
            trivial_ms = summarise(reference).median_ms
            overhead = self._overhead.beside(trivial_ms) if self._overhead else None
            if not self._passes.knows(number):
                self.done = min(self.done + 1, self.turns)
            self._passes.take(number, trivial_ms, [overhead.net(row) if overhead else row for row in rows])
            results = self._passes.results()
            found = {item: np.concatenate(results[item]) for item in group}
            for item, samples in found.items():
                self._unsettled.pop(item, None)
                if not self.is_settled(samples):
                    self._unsettled[item] = None
            yield found

    def is_settled(self, samples: Samples) -> bool:
        """Whether these samples of an item suffice."""
        return self._sampling.is_settled(samples, self._overhead.call_ms if self._overhead else 0.0)

    def _schedule(self, rounds: int) -> Iterator[tuple[int, Sequence[Item]]]:
        """All operators in so many passes; then those that are still uncertain, as often as there are rounds left."""
        for start in range(0, len(self._items), _CHUNK):
            yield from self._passes.over(self._items[start : start + _CHUNK], _PASSES)
        for _ in range(self._sampling.max_rounds // rounds - _PASSES):
            yield from self._passes.over(list(self._unsettled))


def is_enough(sampling: Sampling, median_ms: float, half_width: float, samples: int, call_ms: float = 0.0) -> bool:
    """Whether what is known of an item needs no more measuring: its median is tight, or it was given up.

    Args:
        sampling: How often to measure.
        median_ms: Median of the samples.
        half_width: Half the width of the 95 % interval of the median, as a share of it.
        samples: How many there were; after fewer than three passes, one bad pass may decide.
        call_ms: What calling the engine takes, for an operator.
    """
    rounds = _rounds_of_a_pass(sampling)
    is_given_up = samples >= rounds * max(_PASSES, sampling.max_rounds // rounds)
    return samples >= sampling.rounds and (is_given_up or sampling.is_tight(half_width, median_ms, call_ms))


def _rounds_of_a_pass(sampling: Sampling) -> int:
    return math.ceil(sampling.rounds / _PASSES)
