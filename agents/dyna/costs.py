"""Exact costs of thousands of walks: tables of what sites cost alone and of what few of them cost together."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .codes import Walks, WalkTables

__all__ = ["CostTables"]

Floats = NDArray[np.float64]

#: Costs of a walk, shape (costs,).
CostFunction = Callable[[Sequence[int]], Floats]

#: Random walks in a row that must come out right before the tables are trusted.
_TRUSTED_AFTER = 60

#: A set of sites with more combinations of choices than this gets no table.
_LARGEST_TABLE = 4096

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class _Term:
    """What a few sites cost together, beyond what fewer of them do.

    Attributes:
        positions: The sites.
        values: Shape (*choices of each, costs); 0 where one of them is kept.
    """

    positions: tuple[int, ...]
    values: Floats

    def of(self, walks: Walks) -> Floats:
        """Shape (walks, costs)."""
        return self.values[tuple(walks[:, position] for position in self.positions)]


class CostTables:
    """Costs as a sum of terms of few sites each, anchored at the plan that keeps everything.

    f(x) = f(0) + sum_i f_i(x_i) + sum_(i,j) f_ij(x_i, x_j) + ..., where a term is what is left of f when all other
    sites are kept and the terms of fewer sites are taken away (anchored or cut decomposition, Kuo et al. 2010). Which
    sets of sites have a term is found by trying: a random walk whose cost is not explained yet is reduced to the
    smallest set of sites that shows it. Sums over operators need pairs of neighbours and a few triples; a maximum, such
    as peak memory, is not of this form.

    Args:
        cost: The exact costs of a canonical walk.
        tables: Of the space.
        rng: Draws the walks that are tried.
        additive: Which costs are sums of such terms; for the others only what sites cost alone is added up.

    Attributes:
        exact: Per cost, whether every walk tried at the end came out right, shape (costs,).
    """

    def __init__(
        self, cost: CostFunction, tables: WalkTables, rng: np.random.Generator, additive: NDArray[np.bool_]
    ) -> None:
        self._cost = cost
        self._tables = tables
        self._base = cost([0] * len(tables.counts))
        self._terms: list[_Term] = []
        self.exact = additive.copy()
        for position in tables.open_positions:
            self._add((position,))
        self._refine(rng)

    def __call__(self, walks: Walks) -> Floats:
        """Costs of canonical walks, shape (walks, costs)."""
        total = np.repeat(self._base[None], len(walks), 0)
        for term in self._terms:
            total += term.of(walks)
        return total

    def _refine(self, rng: np.random.Generator) -> None:
        """Add terms until random walks come out right; give a cost up where no small set explains it."""
        right = 0
        while right < _TRUSTED_AFTER and self.exact.any():
            walk = self._tables.random(1, rng)[0]
            if not self._is_off(walk):
                right += 1
                continue
            right = 0
            positions = self._smallest_unexplained(walk)
            if self._is_known(positions) or self._size(positions) > _LARGEST_TABLE:
                self.exact &= ~self._wrong(walk)
            else:
                self._add_with_subsets(positions)

    def _wrong(self, walk: Walks) -> NDArray[np.bool_]:
        missing = np.abs(self._cost(walk.tolist()) - self(walk[None])[0])
        return missing > _TOLERANCE * np.maximum(np.abs(self._base), 1e-12)  # type: ignore[no-any-return]

    def _is_off(self, walk: Walks) -> bool:
        return bool((self._wrong(walk) & self.exact).any())

    def _size(self, positions: tuple[int, ...]) -> int:
        """How many costs a table of these sites asks for."""
        kinds = [len(np.unique(self._tables.representatives[position])) for position in positions[:-1]]
        return math.prod(kinds) * self._tables.counts[positions[-1]]

    def _is_known(self, positions: tuple[int, ...]) -> bool:
        return any(term.positions == positions for term in self._terms)

    def _smallest_unexplained(self, walk: Walks) -> tuple[int, ...]:
        """Sites of which none can be kept without the difference going away."""
        walk = walk.copy()
        for position in np.flatnonzero(walk):
            tried = walk.copy()
            tried[position] = 0
            tried = self._tables.canonical(tried[None])[0]
            if self._is_off(tried):
                walk = tried
        return tuple(int(position) for position in np.flatnonzero(walk))

    def _add_with_subsets(self, positions: tuple[int, ...]) -> None:
        """A term is what its subsets leave, so theirs come first."""
        for size in range(2, len(positions) + 1):
            for subset in itertools.combinations(positions, size):
                if not self._is_known(subset):
                    self._add(subset)

    def _add(self, positions: tuple[int, ...]) -> None:
        """Tabulate what these sites cost together beyond the terms there are."""
        counts = [self._tables.counts[position] for position in positions]
        values = np.zeros((*counts, len(self._base)))
        # What the last site costs beside the others depends on what these do to their neighbours alone.
        firsts = [self._tables.representatives[position] for position in positions[:-1]]
        tried = [*(np.unique(first) for first in firsts), np.arange(counts[-1])]
        for indices in itertools.product(*(options[options > 0].tolist() for options in tried)):
            walk = np.zeros((1, len(self._tables.counts)), np.int64)
            walk[0, positions] = indices
            if (self._tables.canonical(walk) == walk).all():
                values[indices] = self._cost(walk[0].tolist()) - self(walk)[0]
        for axis, first in enumerate(firsts):
            values = values.take(first, axis)
        self._terms.append(_Term(positions, values))
