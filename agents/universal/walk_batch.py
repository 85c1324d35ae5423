"""Many walks of one network side by side, each with a demand of its own, observed as the environments do."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...envs.observation import COST_NAMES, LIMIT, SLOTS, Observer, SiteView, demand_features
from ...envs.problem import Problem
from ...envs.walk import open_positions
from ...evaluation.demand import Demand
from ..dyna.codes import Walks, WalkTables

__all__ = ["Ground", "WalkBatch"]

Vector = NDArray[np.float32]


class Ground:
    """What walks of a network on a device share; what was looked at once is remembered.

    Args:
        problem: Of that network and device; its demand plays no part.

    Attributes:
        problem: The same.
        tables: Its space as tables.
        positions: Of the sites that have a choice.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.tables = WalkTables(problem.bank)
        self.positions = open_positions(problem)
        self._observer = Observer(problem)
        space = problem.space
        self._before = [tuple(space.positions[name] for name in space.producers[s.name]) for s in space.sites]

    def views(self, position: int, walks: Walks) -> tuple[list[SiteView], NDArray[np.int64]]:
        """The different views of a site after the choices before it, and which of them each walk has."""
        is_replaced = walks[:, self.problem.space.around(position)] > 0
        keys = np.concatenate([walks[:, self._before[position]], is_replaced.astype(np.int64)], 1)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return [self._observer.view(position, walks[row].tolist()) for row in first], inverse.reshape(-1)

    def tail(self, demand: Demand) -> list[float]:
        """What an observation says of a demand and of the device."""
        return [*demand_features(demand, self.problem.baseline), *self.problem.device_features]


class WalkBatch:
    """Walks that are all at the same site.

    Args:
        ground: What they share.
        demands: One per walk.

    Attributes:
        walks: Choices made so far, shape (walks, sites).
    """

    def __init__(self, ground: Ground, demands: Sequence[Demand]) -> None:
        self._ground = ground
        tails = {id(demand): ground.tail(demand) for demand in demands}
        self._tails = np.array([tails[id(demand)] for demand in demands], np.float32)
        self.walks: Walks = np.zeros((len(demands), len(ground.tables.counts)), np.int64)
        self._sums = np.zeros((len(demands), len(COST_NAMES) + 2))
        self._step = 0
        self._look()

    def _look(self) -> None:
        views, which = self._ground.views(self.position, self.walks)
        self._vectors = np.stack([view.vector for view in views])[which]
        self._savings = np.stack([view.savings for view in views])[which]
        self._errors = np.stack([view.errors for view in views])[which]
        self._masks = np.zeros((len(which), SLOTS), bool)
        self._masks[:, : self._errors.shape[1]] = np.stack([view.mask for view in views])[which]

    @property
    def position(self) -> int:
        """The site whose turn it is."""
        return self._ground.positions[self._step]

    @property
    def is_over(self) -> bool:
        """Whether every site was decided."""
        return self._step == len(self._ground.positions)

    def masks(self) -> NDArray[np.bool_]:
        """Which choices are open, shape (walks, SLOTS)."""
        return self._masks

    def observations(self) -> Vector:
        """Shape (walks, Observer.size); at the end, the last site with the final sums."""
        done = np.full((len(self.walks), 1), self._step / len(self._ground.positions))
        total, largest = np.minimum(self._sums[:, [-2]], 4.0) / 4, np.minimum(self._sums[:, [-1]], 1.0)
        running = np.concatenate([self._sums[:, :-2], total, largest, done], 1).astype(np.float32)
        whole: Vector = np.concatenate([self._vectors, running, self._tails], 1)
        return np.clip(whole, -LIMIT, LIMIT, out=whole)

    def choose(self, actions: NDArray[np.int64]) -> None:
        """Decide the site by open choices, shape (walks,), and go on."""
        rows = np.arange(len(actions))
        self.walks[:, self.position] = actions
        errors = self._errors[rows, actions]
        self._sums[:, :-2] += self._savings[rows, actions]
        self._sums[:, -2] += errors
        self._sums[:, -1] = np.maximum(self._sums[:, -1], errors)
        self._step += 1
        if not self.is_over:
            self._look()
