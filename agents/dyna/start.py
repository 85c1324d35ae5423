"""The plans that a search begins with."""

import numpy as np

from ...envs.problem import Problem
from ..additive import AdditiveModel
from .codes import Walks, WalkTables
from .simulation import unique_rows

__all__ = ["additive_minima", "first_walks"]

#: Walks drawn for each one that is taken.
_DRAWN = 20

#: Prices of a path of additive minima, from dear errors to dear costs, and powers of the errors.
_PRICES = np.geomspace(0.01, 10, 12)
_EXPONENTS = (1.5, 2.0)


def additive_minima(problem: Problem) -> Walks:
    """Plans that would be best if sites' errors and costs added up, shape (walks, sites); none is evaluated."""
    model = AdditiveModel(problem)
    found = [model.minimum(float(price), exponent) for exponent in _EXPONENTS for price in _PRICES]
    return unique_rows(np.array(found, np.int64))


def first_walks(tables: WalkTables, minima: Walks, count: int, is_spread: bool, rng: np.random.Generator) -> Walks:
    """Keeping everything, additive minima, then random walks, about as many of these as of those.

    Args:
        tables: Of the space.
        minima: As `additive_minima` gives them; may be empty.
        count: How many walks, at most.
        is_spread: Whether even ranks of the summed error are taken, and of random walks a random share of the sites is
            kept.
        rng: Draws them.

    Returns:
        Unique walks, shape (walks, sites).
    """
    keep = np.zeros((1, len(tables.counts)), np.int64)
    drawn = tables.random(_DRAWN * count, rng)
    ranked = _at_even_ranks(tables, minima, min(len(minima), count // 2))
    if is_spread:
        is_kept = rng.random(drawn.shape) < rng.random((len(drawn), 1))
        drawn = tables.canonical(np.where(is_kept, 0, drawn))
        drawn = _at_even_ranks(tables, unique_rows(drawn), count - 1 - len(ranked))
    return unique_rows(np.concatenate([keep, ranked, drawn]))[:count]


def _at_even_ranks(tables: WalkTables, walks: Walks, count: int) -> Walks:
    """`count` of the walks at even ranks of their summed error."""
    ordered = walks[np.argsort(tables.errors(walks).sum(1), kind="stable")]
    taken: Walks = ordered[np.linspace(0, len(ordered) - 1, max(0, count)).round().astype(int)]
    return taken
