"""How walks of high simulated value are found; every planner may simulate the same number of walks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from torch import Tensor
from typing_extensions import override

from ...errors import EspalierError
from .codes import Walks, WalkTables
from .simulation import Pool, unique_rows

__all__ = ["EverythingPlanner", "EvolutionPlanner", "Planner", "RandomPlanner", "TeamPlanner", "crossed", "neighbours"]


class Planner(ABC):
    """Fills a pool with walks of high value."""

    def begin(self, tables: WalkTables, seed: int) -> None:  # noqa: ARG002  # a policy needs it
        """Get ready for a search.

        Args:
            tables: Of its space.
            seed: Of all decisions that `rng` does not make.
        """
        self._tables = tables

    def policy_state(self) -> dict[str, Tensor]:
        """Weights of what was learnt; empty where nothing is."""
        return {}

    @abstractmethod
    def plan(self, pool: Pool, elites: Walks, rng: np.random.Generator) -> None:
        """Simulate walks.

        Args:
            pool: Values and remembers walks.
            elites: The best walks that were evaluated, best first.
            rng: Of the decisions.
        """


class RandomPlanner(Planner):
    """Random walks: what a planner must beat.

    Args:
        walks: How many to simulate between evaluations.
    """

    def __init__(self, walks: int = 2000) -> None:
        self._walks = walks

    @override
    def plan(self, pool: Pool, elites: Walks, rng: np.random.Generator) -> None:
        pool(self._tables.random(self._walks, rng))


class EvolutionPlanner(Planner):
    """A genetic algorithm on the simulated values, from the elites and random walks.

    Args:
        population: Parents of a generation and children of the next.
        generations: How many.
        crossover: Share of children that have two parents, each site taken from either.
    """

    def __init__(self, population: int = 200, generations: int = 10, crossover: float = 0.5) -> None:
        self._population = population
        self._generations = generations
        self._crossover = crossover

    @override
    def plan(self, pool: Pool, elites: Walks, rng: np.random.Generator) -> None:
        walks, _ = pool.ranked()
        seeds = np.concatenate([elites, walks[: self._population // 4]])
        alive = unique_rows(np.concatenate([seeds, self._tables.random(self._population // 2, rng)]))
        for _ in range(self._generations):
            order = np.argsort(-pool(alive), kind="stable")
            alive = alive[order[: self._population // 4]]
            alive = unique_rows(np.concatenate([alive, self._children(alive, rng)]))
        pool(alive)

    def _children(self, parents: Walks, rng: np.random.Generator) -> Walks:
        mixed = crossed(parents, self._population, self._crossover, rng)
        return self._tables.canonical(neighbours(self._tables, mixed, rng))


class EverythingPlanner(Planner):
    """Every plan of a small space: what a perfect planner would find.

    Args:
        limit: The largest space that is taken.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit

    @override
    def begin(self, tables: WalkTables, seed: int) -> None:
        super().begin(tables, seed)
        if (size := math.prod(tables.counts)) > self._limit:
            raise EspalierError(
                f"planner=everything takes spaces of up to {self._limit:,} plans, this one has {size:,}; choose another"
            )

    @override
    def plan(self, pool: Pool, elites: Walks, rng: np.random.Generator) -> None:
        grids = np.meshgrid(*(np.arange(count) for count in self._tables.counts), indexing="ij")
        walks = np.stack([grid.ravel() for grid in grids], 1)
        pool(walks[(self._tables.canonical(walks) == walks).all(1)])


class TeamPlanner(Planner):
    """Several planners after one another, each starting from what those before it found.

    Args:
        planners: By name, in order.

    Raises:
        EspalierError: There is none.
    """

    def __init__(self, planners: Mapping[str, Planner]) -> None:
        if not planners:
            raise EspalierError("agent.planner.planners needs at least one planner, got none")
        self._planners = tuple(planners.values())

    @override
    def begin(self, tables: WalkTables, seed: int) -> None:
        for planner in self._planners:
            planner.begin(tables, seed)

    @override
    def policy_state(self) -> dict[str, Tensor]:
        return {k: tensor for planner in self._planners for k, tensor in planner.policy_state().items()}

    @override
    def plan(self, pool: Pool, elites: Walks, rng: np.random.Generator) -> None:
        for planner in self._planners:
            planner.plan(pool, elites, rng)


def crossed(parents: Walks, count: int, share: float, rng: np.random.Generator) -> Walks:
    """Children of random parents, not yet canonical.

    Args:
        parents: Shape (parents, sites).
        count: How many children.
        share: Of the children that have two parents, each site taken from either.
        rng: Draws them.
    """
    first, second = parents[rng.integers(len(parents), size=(2, count))]
    is_crossed = rng.random((count, 1)) < share
    from_second = is_crossed & (rng.random(first.shape) < 0.5)
    children: Walks = np.where(from_second, second, first)
    return children


def neighbours(tables: WalkTables, walks: Walks, rng: np.random.Generator) -> Walks:
    """Each walk with another choice at one or two sites, not yet canonical."""
    changed = walks.copy()
    rows = np.arange(len(walks))
    positions = np.array(tables.open_positions)
    counts = np.array(tables.counts)
    for is_changed in (np.ones(len(walks), bool), rng.random(len(walks)) < 0.4):
        where = positions[rng.integers(len(positions), size=len(walks))]
        shift = 1 + (rng.random(len(walks)) * (counts[where] - 1)).astype(np.int64)
        shifted = (changed[rows, where] + shift) % counts[where]
        changed[rows, where] = np.where(is_changed, shifted, changed[rows, where])
    return changed
