"""Progress of long steps on standard error, by rich on a terminal and as one line per step elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Advance", "console", "results", "step"]

console = Console(stderr=True, highlight=False)

#: Between lines about a step that is not over, where there is no terminal to draw a bar on.
_EVERY_SECONDS = 30.0


def results() -> Console:
    """Standard output, for what a command was asked for; wide where nobody's terminal limits it."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


class Advance(Protocol):
    """Tells a step how far it has come."""

    def __call__(self, units: float = 1, remark: str = "") -> None:
        """Add the units done since the last call; a remark replaces the one before."""


@contextmanager
def step(description: str, total: float | None = None) -> Iterator[Advance]:
    """Show one long step.

    Args:
        description: What is being done, such as "building the bank".
        total: How many units it takes; None when unknown.

    Yields:
        What to call whenever something is done.
    """
    started = time.perf_counter()
    if console.is_terminal:
        with _bar(description, total) as advance:
            yield advance
    else:
        yield _Lines(description, total)
    console.print(f"{description:<28} {time.perf_counter() - started:6.1f} s")


@contextmanager
def _bar(description: str, total: float | None) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total, remark="")

        def advance(units: float = 1, remark: str = "") -> None:
            progress.advance(task, units)
            if remark:
                progress.update(task, remark=remark)

        yield advance


class _Lines:
    """Now and then a line in a log, so that a long step does not look like one that hangs."""

    def __init__(self, description: str, total: float | None) -> None:
        self._description = description
        self._total = total
        self._done = 0.0
        self._started = self._said = time.perf_counter()

    def __call__(self, units: float = 1, remark: str = "") -> None:
        self._done += units
        now = time.perf_counter()
        if self._total is None or self._done <= 0 or now - self._said < _EVERY_SECONDS:
            return
        if self._done < self._total:
            share = self._done / self._total
            state = f"{100 * share:4.0f} %, about {(now - self._started) * (1 - share) / share:.0f} s left"
        elif units == 0:
            state = f"{now - self._started:6.1f} s, more than was planned"
        else:
            return
        self._said = now
        console.print("; ".join(part for part in (f"{self._description:<28} {state}", remark) if part))
