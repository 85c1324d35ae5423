"""What machine this is."""

import os
import platform
from pathlib import Path

__all__ = ["cpu_model", "usable_cpus"]


#: What /proc/cpuinfo calls the processor on x86, or the board on Arm, the most telling first.
_NAMES = ("model name", "model", "hardware")


def cpu_model() -> str:
    """The processor's name as its maker writes it; on Arm boards, which have none, the board's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    named = (facts[name] for name in _NAMES if facts.get(name))
    return next(named, "") or platform.processor() or platform.machine()


def usable_cpus() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
