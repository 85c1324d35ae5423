"""What the operating system tells of the processors: whose time they spend, and how fast they are."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Counters", "frequency_mhz", "own_seconds"]

_STAT = Path("/proc/stat")
_FREQUENCY = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"

#: Columns of the first line of /proc/stat (proc(5)); guests are counted in user and nice already.
_IDLE, _WAITING, _STEAL, _COLUMNS = 3, 4, 7, 8


@dataclass(frozen=True)
class Counters:
    """Seconds that all processors together have spent.

    Attributes:
        total: In any way.
        idle: Doing nothing.
        steal: Running other virtual machines.
    """

    total: float = 0.0
    idle: float = 0.0
    steal: float = 0.0

    @classmethod
    def read(cls, stat: Path = _STAT) -> Counters:
        """The counters now; all 0 where there are none."""
        try:
            words = stat.read_text(encoding="ascii").splitlines()[0].split()
            ticks = [int(word) for word in words[1 : _COLUMNS + 1]]
        except (OSError, ValueError, IndexError):
            return cls()
        if words[:1] != ["cpu"] or len(ticks) < _COLUMNS:
            return cls()
        second = os.sysconf("SC_CLK_TCK")
        return cls(sum(ticks) / second, (ticks[_IDLE] + ticks[_WAITING]) / second, ticks[_STEAL] / second)

    def since(self, before: Counters) -> Counters:
        """What was spent in between."""
        return Counters(self.total - before.total, self.idle - before.idle, self.steal - before.steal)

    @property
    def steal_share(self) -> float:
        """Share of the time that went to other virtual machines."""
        return max(0.0, self.steal) / self.total if self.total > 0 else 0.0

    def others_share(self, own: float) -> float:
        """Share of the time that other programs of this machine used.

        Args:
            own: Seconds that this process used.
        """
        busy = self.total - self.idle - self.steal - own
        return max(0.0, busy) / self.total if self.total > 0 else 0.0


def own_seconds() -> float:
    """Processor time of this process and its threads, seconds."""
    return time.process_time()


def frequency_mhz() -> float | None:
    """The present frequency of the processor that this thread is allowed on; None where it cannot be read."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    processor = max(os.sched_getaffinity(0))
    try:
        return int(Path(_FREQUENCY.format(processor)).read_text(encoding="ascii")) / 1e3
    except (OSError, ValueError):
        return None
