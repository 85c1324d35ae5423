"""The plans that a search begins with."""

import numpy as np

from .codes import Walks, WalkTables
from .simulation import unique_rows

__all__ = ["first_walks"]

#: Walks drawn for each one that is taken.
_DRAWN = 20


def first_walks(tables: WalkTables, count: int, is_spread: bool, rng: np.random.Generator) -> Walks:
    """Keeping everything, then random walks.

    Args:
        tables: Of the space.
        count: How many walks, at most.
        is_spread: Whether a random share of the sites is kept and even ranks of the summed error are taken.
        rng: Draws them.

    Returns:
        Unique walks, shape (walks, sites).
    """
    keep = np.zeros((1, len(tables.counts)), np.int64)
    drawn = tables.random(_DRAWN * count, rng)
    if is_spread:
        is_kept = rng.random(drawn.shape) < rng.random((len(drawn), 1))
        drawn = tables.canonical(np.where(is_kept, 0, drawn))
        drawn = unique_rows(drawn[np.argsort(tables.errors(drawn).sum(1), kind="stable")])
        drawn = drawn[np.linspace(0, len(drawn) - 1, max(0, count - 1)).round().astype(int)]
    return unique_rows(np.concatenate([keep, drawn]))[:count]
