"""Timing on machines that other programs share: interleaved, repeated, robust against outliers."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Timing",
    "one_processor",
    "paired_ratio",
    "relative_half_width",
    "sample_ms",
    "summarise",
    "time_alternating",
    "warmed_up",
]

Call = Callable[[], object]

#: A sample shorter than this would mostly measure the scheduler, and what a whole network finds in the caches once, at
#: its first calls.
_SAMPLE_SECONDS = 1e-3


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one call takes.

    Attributes:
        median_ms: Median over the samples, milliseconds.
        std_ms: Standard deviation of the median, from the median absolute deviation of the samples.
        samples: How many samples there were.
    """

    median_ms: float
    std_ms: float
    samples: int


def time_alternating(calls: Sequence[Call], rounds: int, warmup: int = 2) -> NDArray[np.float64]:
    """Time several calls in turn, so that a change of the machine's speed meets all of them.

    Args:
        calls: What to time.
        rounds: Samples of each call.
        warmup: Calls of each before anything is measured.

    Returns:
        Milliseconds per call, shape (calls, rounds); column r of all rows was measured right after each other.
    """
    repetitions = [warmed_up(call, warmup) for call in calls]
    samples = np.empty((len(calls), rounds))
    for turn in range(rounds):
        for row, (call, count) in enumerate(zip(calls, repetitions, strict=True)):
            samples[row, turn] = sample_ms(call, count)
    return samples


def warmed_up(call: Call, warmup: int = 2) -> int:
    """Call a few times, and find out how often to call so that one sample is long enough."""
    for _ in range(warmup):
        call()
    fastest = min(sample_ms(call, 1) for _ in range(3)) * 1e-3
    return max(1, round(_SAMPLE_SECONDS / max(fastest, 1e-8)))


def sample_ms(call: Call, count: int) -> float:
    """Milliseconds per call of `count` calls right after each other."""
    # What took turns with this call has taken its place in the caches.
    call()
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count * 1e3


def summarise(samples: NDArray[np.float64]) -> Timing:
    """Median and its standard deviation; a minority of disturbed samples changes neither much.

    Args:
        samples: Milliseconds, shape (rounds,).
    """
    median = float(np.median(samples))
    spread = 1.4826 * float(np.median(np.abs(samples - median)))
    # The median of n normal samples deviates by sqrt(pi / 2) / sqrt(n) of one sample's deviation.
    return Timing(median, 1.2533 * spread / len(samples) ** 0.5, len(samples))


def relative_half_width(samples: NDArray[np.float64]) -> float:
    """Half the width of a 95 % interval of the median, as a share of the median.

    The interval lies between two of the sorted samples: the median is below the k-th of n only if fewer than k samples
    are below it, which has a binomial probability whatever the distribution. With fewer than six samples no such
    interval exists; all of them are taken.

    Args:
        samples: Positive numbers, shape (rounds,).
    """
    ranked = np.sort(samples)
    below = _rank_below(len(ranked))
    return float((ranked[len(ranked) - 1 - below] - ranked[below]) / (2 * np.median(ranked)))


def _rank_below(count: int) -> int:
    """The largest k for which at most k of `count` fair coins fall on heads with a probability of at most 2.5 %."""
    tail, rank = 0.5**count, 0
    while rank + 1 < (count + 1) // 2 and (tail := tail + math.comb(count, rank + 1) * 0.5**count) <= 0.025:
        rank += 1
    return rank


def paired_ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> float:
    """Median of the ratios of samples taken right after each other.

    Args:
        numerator: Milliseconds, shape (rounds,).
        denominator: Milliseconds, shape (rounds,).
    """
    return float(np.median(numerator / denominator))


@contextmanager
def one_processor(threads: int) -> Iterator[None]:
    """Keep a single-threaded engine from being moved between processors while it is timed.

    Args:
        threads: Threads of the engine; with more than one, nothing is pinned.
    """
    if threads != 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
