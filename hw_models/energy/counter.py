"""Counters of energy that a machine has, behind one interface."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ...errors import EspalierError
from .nvml import NvmlCounter
from .rapl import RaplCounter

__all__ = ["EnergyCounter", "energy_per_call", "find_counter"]


class EnergyCounter(Protocol):
    """A counter that only grows."""

    @property
    def name(self) -> str:
        """What is counted, by what."""

    def read_mj(self) -> float:
        """Millijoules since the counter was opened; to be read often enough that it does not wrap around unseen.

        Raises:
            EspalierError: The counter cannot be read any more.
        """


_COUNTERS: dict[str, Callable[[], EnergyCounter]] = {"rapl": RaplCounter, "nvml": NvmlCounter}


def find_counter(name: str = "auto", root: Path | None = None) -> EnergyCounter:
    """Open a counter.

    Args:
        name: "rapl" for processors, "nvml" for NVIDIA's graphics processors, or "auto" for the processor's.
        root: Folder of RAPL's files instead of the system's.

    Raises:
        EspalierError: The name is unknown, or there is no such counter or no permission to read it.
    """
    if root is not None:
        return RaplCounter(root)
    # All engines here compute on the processor; a graphics card's counter would count something else.
    wanted = "rapl" if name == "auto" else name
    if wanted not in _COUNTERS:
        raise EspalierError(f"unknown energy counter {name!r}; known: auto, {', '.join(_COUNTERS)}")
    return _COUNTERS[wanted]()


def energy_per_call(counter: EnergyCounter, call: Callable[[], object], seconds: float) -> float:
    """Millijoules of one call, from calling for a while.

    Args:
        counter: Counts meanwhile.
        call: The work.
        seconds: How long to go on, at least.
    """
    before, started, calls = counter.read_mj(), time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - started < seconds:
        call()
        calls += 1
    return (counter.read_mj() - before) / calls
