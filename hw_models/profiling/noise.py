"""Noticing that a machine is too busy, too hot or too shared to be timed well."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .machine_state import Counters, frequency_mhz, own_seconds

__all__ = ["NOISE_FIGURES", "Noise", "NoiseWatch", "merged_noise"]

#: Samples of the reference workload: to calibrate it, and in each later look.
_CALIBRATION, _LOOK = 40, 10

#: Seconds between two looks, so that looking takes a few per cent of the time at most.
_PAUSE = 0.25

_ELEMENTS, _PASSES = 8192, 16

#: Field -> from where on it makes a machine noisy, and how to say so.
_LIMITS = {
    "slowdown": (0.10, "a fixed piece of work took up to {:.0%} longer than at its best"),
    "waiting": (0.02, "it waited {:.0%} of its time for a processor"),
    "steal": (0.01, "the hypervisor gave {:.0%} of the processors' time to others"),
    "others": (0.25, "other programs kept {:.0%} of the processors busy"),
    "frequency_change": (0.10, "the processor's frequency changed by {:.0%}"),
}

NOISE_FIGURES = tuple(_LIMITS)


@dataclass(frozen=True)
class Noise:
    """What disturbed a measurement; each figure is a share, 0 for a quiet machine or where nothing can be read.

    Attributes:
        slowdown: How much longer the reference workload took in its worst look than at its best.
        waiting: Share of the reference's time in which its thread had no processor.
        steal: Share of all processors' time that a hypervisor gave to other machines.
        others: Share of all processors' time that other programs used.
        frequency_change: How far the highest frequency seen was above the lowest.
    """

    slowdown: float = 0.0
    waiting: float = 0.0
    steal: float = 0.0
    others: float = 0.0
    frequency_change: float = 0.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences on what is beyond its limit; empty on a quiet machine."""
        values = asdict(self)
        return tuple(text.format(values[name]) for name, (limit, text) in _LIMITS.items() if values[name] > limit)

    def to_dict(self) -> dict[str, Any]:
        """Figures and verdict, ready for JSON."""
        figures = {name: round(value, 4) for name, value in asdict(self).items()}
        return {"noisy": bool(self.reasons), "reasons": list(self.reasons), **figures}


class NoiseWatch:
    """Times a reference workload before, between and after measurements, and reads the system's counters.

    The workload is a running sum, each step of which waits for the one before: it takes a fixed number of the
    processor's cycles. Its best time on this machine, found at the start, is what it is compared with.
    """

    def __init__(self) -> None:
        self._values = np.random.default_rng(0).random(_ELEMENTS)
        self._sums = np.empty(_ELEMENTS)
        self._wall, self._processor = 0.0, 0.0
        self._frequencies: list[float] = []
        self._work()
        self._best = np.inf
        self._looks: list[float] = []
        self._look(_CALIBRATION)
        self._began = Counters.read()
        self._own, self._started = own_seconds(), time.perf_counter()
        self._next = 0.0

    def look(self, now: bool = False) -> None:
        """Time the reference workload, unless that was done a moment ago.

        Args:
            now: Whether to do it in any case.
        """
        if now or time.perf_counter() >= self._next:
            self._look(_LOOK)

    def report(self) -> Noise:
        """What was noticed since the watch began."""
        self.look(now=True)
        spent = Counters.read().since(self._began)
        own = own_seconds() - self._own
        frequencies = self._frequencies or [1.0]
        return Noise(
            slowdown=max(self._looks) / self._best - 1,
            waiting=max(0.0, 1 - self._processor / self._wall),
            steal=spent.steal_share,
            others=spent.others_share(own),
            frequency_change=max(frequencies) / min(frequencies) - 1,
        )

    def _look(self, count: int) -> None:
        samples = [self._sample() for _ in range(count)]
        self._best = min(self._best, *samples)
        self._looks.append(float(np.median(samples)))
        if frequency := frequency_mhz():
            self._frequencies.append(frequency)
        self._next = time.perf_counter() + _PAUSE

    def _sample(self) -> float:
        wall, processor = time.perf_counter(), time.thread_time()
        self._work()
        elapsed = time.perf_counter() - wall
        self._wall += elapsed
        self._processor += time.thread_time() - processor
        return elapsed

    def _work(self) -> None:
        for _ in range(_PASSES):
            np.cumsum(self._values, out=self._sums)


def merged_noise(one: Noise | None, other: Noise | None) -> Noise | None:
    """The worst of two; None where nobody watched."""
    if one is None or other is None:
        return one or other
    first, second = asdict(one), asdict(other)
    return Noise(**{name: max(first[name], second[name]) for name in first})
