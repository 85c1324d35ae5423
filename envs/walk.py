"""One walk over the sites of a network."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import EspalierError
from .observation import COST_NAMES, SLOTS, Observer, SiteView, Vector
from .problem import Problem

__all__ = ["Walk", "open_positions"]


def open_positions(problem: Problem) -> tuple[int, ...]:
    """Positions of the sites that have a choice.

    Raises:
        EspalierError: It is no problem, or a site has more choices than an observation has room for.
    """
    if not hasattr(problem, "space"):  # what `gymnasium.make` was given is unknown to a type checker
        raise EspalierError(f"an environment expects problem=, an espalier.envs.problem.Problem, got {problem!r}")
    counts = [len(choices) for choices in problem.space.choices]
    if max(counts) > SLOTS:
        name = problem.space.sites[counts.index(max(counts))].name
        raise EspalierError(f"{name} has {max(counts)} choices, an observation has room for {SLOTS}: narrow the space")
    return tuple(position for position, count in enumerate(counts) if count > 1)


class Walk:
    """Choices made so far, site by site; sites without a choice are passed over.

    Args:
        problem: The problem.
        observer: Of the same problem.
        positions: As `open_positions` gives them.
    """

    def __init__(self, problem: Problem, observer: Observer, positions: Sequence[int]) -> None:
        self._problem = problem
        self._observer = observer
        self._positions = positions
        self.indices = [0] * len(problem.space.sites)
        self._step = 0
        self._sums = np.zeros(len(COST_NAMES) + 2)
        self._look()

    def _look(self) -> None:
        self.view: SiteView = self._observer.view(self.position, self.indices)
        both = self.view.mask & self._problem.affordable(self.position, self.indices)
        self._mask = both if both.any() else self.view.mask

    @property
    def position(self) -> int:
        """The site whose turn it is."""
        return self._positions[self._step]

    @property
    def is_over(self) -> bool:
        """Whether every site was decided."""
        return self._step == len(self._positions)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which choices are open at the site whose turn it is; those after which no budget can be met are closed."""
        return self._mask

    @property
    def running(self) -> list[float]:
        """Savings so far, summed and largest error so far, share of the walk that is done."""
        *savings, summed, largest = self._sums
        return [*savings, min(summed, 4.0) / 4, min(largest, 1.0), self._step / len(self._positions)]

    def observation(self) -> Vector:
        """What an agent sees now; at the end, the last site with the final sums."""
        return self._observer.observe(self.view, self.running)

    def choose(self, index: int) -> bool:
        """Decide a site and go on.

        Args:
            index: Index of a choice; the nearest open one is taken where it is closed.

        Returns:
            Whether the choice was open.
        """
        opened = np.flatnonzero(self.mask)
        nearest = int(opened[np.abs(opened - index).argmin()])
        self.indices[self.position] = nearest
        self._sums[:-2] += self.view.savings[nearest]
        self._sums[-2] += self.view.errors[nearest]
        self._sums[-1] = max(self._sums[-1], self.view.errors[nearest])
        self._step += 1
        if not self.is_over:
            self._look()
        return nearest == index
