"""Measuring so that one bad moment decides nothing.

On a shared machine, somebody else's work on the other half of a processor's core slows everything down by half for a
second or two, without a trace in the system's counters; and an engine now and then prepares an operator so unluckily
that it stays slow. What is measured meanwhile is steady, and wrong. So everything is measured in several passes,
prepared anew and in other company each time; a call that always does the same, timed beside every group, tells which
groups met a slower machine, and those are measured again.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np

__all__ = ["Passes"]

#: How often slow groups are measured again, at most.
_REPEATS = 3

#: A group whose reference took so many times as long as in the faster groups was measured on a slower machine.
_SLOW = 1.04

#: The share of the groups, in per cent, that counts as the faster ones.
_FASTER = 25

Item = TypeVar("Item")
Result = TypeVar("Result")


class Passes(Generic[Item, Result]):
    """What to measure next, and what was measured.

    Args:
        group: How many items take turns.
    """

    def __init__(self, group: int) -> None:
        self._size = group
        self._groups: list[list[Item]] = []
        self._reference_ms: dict[int, float] = {}
        self._results: dict[int, list[Result]] = {}

    def over(self, items: Sequence[Item], passes: int = 1) -> Iterator[tuple[int, Sequence[Item]]]:
        """Passes over items, beside those that were made before.

        Args:
            items: What to measure.
            passes: How often.

        Yields:
            Number and items of each group in the order in which to measure them; then again the slow ones, the slowest
            first, but on a machine whose speed swings all the time no more of them than there are groups.
        """
        first = len(self._groups)
        for _ in range(passes):
            order = list(items)
            if self._groups:
                random.Random(len(self._groups)).shuffle(order)
            self._groups += [order[start : start + self._size] for start in range(0, len(order), self._size)]
        numbers = range(first, len(self._groups))
        yield from [(number, self._groups[number]) for number in numbers]
        left = len(numbers)
        for _ in range(_REPEATS):
            slow = [number for number in self._slow() if number in numbers][:left]
            left -= len(slow)
            yield from [(number, self._groups[number]) for number in slow]

    def knows(self, number: int) -> bool:
        """Whether a group was measured before."""
        return number in self._reference_ms

    def take(self, number: int, reference_ms: float, results: Sequence[Result]) -> None:
        """Remember how long the reference took beside a group, and what was measured.

        It counts unless the machine was faster when the same group was measured before.
        """
        if reference_ms < self._reference_ms.get(number, float("inf")):
            self._reference_ms[number] = reference_ms
            self._results[number] = list(results)

    def results(self) -> dict[Item, list[Result]]:
        """What was measured so far of each item, one result for each pass."""
        found: dict[Item, list[Result]] = defaultdict(list)
        for number, results in self._results.items():
            for item, result in zip(self._groups[number], results, strict=True):
                found[item].append(result)
        return dict(found)

    @property
    def reference_ms(self) -> float:
        """What the reference usually took beside the groups that count."""
        return float(np.median(list(self._reference_ms.values())))

    def _slow(self) -> list[int]:
        """Groups that met a slower machine, the slowest first."""
        limit = _SLOW * float(np.percentile(list(self._reference_ms.values()), _FASTER)) if self._reference_ms else 0.0
        slow = [number for number, reference_ms in self._reference_ms.items() if reference_ms > limit]
        return sorted(slow, key=lambda number: -self._reference_ms[number])
