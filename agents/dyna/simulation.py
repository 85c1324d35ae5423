"""A pool of simulated walks, each with what the surrogate makes of it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .codes import Walks

__all__ = ["Pool", "unique_rows"]

Floats = NDArray[np.float64]


class Pool:
    """Values walks, each once, and remembers them; planners look for high values.

    Args:
        value: Of unique canonical walks, shape (walks,).
        n_sites: Length of a walk.
    """

    def __init__(self, value: Callable[[Walks], Floats], n_sites: int) -> None:
        self._value = value
        self._known: dict[bytes, float] = {}
        self._rows: list[Walks] = [np.zeros((0, n_sites), np.int64)]

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, walks: Walks) -> Floats:
        """The value of each walk, shape (walks,)."""
        keys = [walk.tobytes() for walk in walks]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            rows = walks[list(new.values())]
            self._known |= dict(zip(new, self._value(rows).tolist(), strict=True))
            self._rows.append(rows)
        return np.array([self._known[key] for key in keys])

    def simulated(self) -> Walks:
        """All walks in the order they were simulated."""
        return np.concatenate(self._rows)

    def ranked(self) -> tuple[Walks, Floats]:
        """All walks in order of falling value, the earlier first among equals, and their values."""
        walks, values = self.simulated(), np.array(list(self._known.values()))
        order = np.argsort(-values, kind="stable")
        return walks[order], values[order]


def unique_rows(walks: Walks) -> Walks:
    """Each walk once, in order of first appearance."""
    _, first = np.unique(walks, axis=0, return_index=True)
    return walks[np.sort(first)]
