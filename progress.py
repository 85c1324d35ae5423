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
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total, remark="")

        def advance(units: float = 1, remark: str = "") -> None:
            progress.advance(task, units)
            if remark:
                progress.update(task, remark=remark)

        yield advance
    console.print(f"{description:<28} {time.perf_counter() - started:6.1f} s")
