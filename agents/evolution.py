"""Regularised evolution."""

from collections import deque

import numpy as np
from typing_extensions import override

from ..envs.problem import Callback, Problem
from .searcher import BaseSearcher, Walk, fresh_random_walk, mutated

__all__ = ["EvolutionSearch"]


class EvolutionSearch(BaseSearcher):
    """Ageing evolution (Real et al. 2019, arXiv 1802.01548): a tournament's winner is mutated, the oldest dies.

    Args:
        population: Individuals alive.
        tournament: Individuals drawn to find a parent.
        crossover: Share of children that have two parents, each site taken from either.
        seed: Of all decisions.
    """

    def __init__(self, population: int = 24, tournament: int = 6, crossover: float = 0.3, seed: int = 0) -> None:
        super().__init__(seed)
        self._population = population
        self._tournament = tournament
        self._crossover = crossover

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        alive: deque[tuple[float, Walk]] = deque(maxlen=self._population)
        keep: Walk = (0,) * len(problem.space.sites)
        alive.append((problem.evaluate_walk(keep).reward, keep))
        while True:
            is_starting = len(alive) < self._population
            child = fresh_random_walk(problem, rng) if is_starting else self._child(problem, alive, rng)
            alive.append((problem.evaluate_walk(child).reward, child))

    def _child(self, problem: Problem, alive: deque[tuple[float, Walk]], rng: np.random.Generator) -> Walk:
        parent = self._parent(alive, rng)
        if rng.random() < self._crossover:
            other = self._parent(alive, rng)
            from_other = rng.random(len(parent)) < 0.5
            mixed = [b if take else a for a, b, take in zip(parent, other, from_other, strict=True)]
            parent = problem.space.canonical(mixed)
        for _ in range(20):
            child = mutated(problem, parent, rng, 1 + int(rng.random() < 0.3))
            if not problem.is_known(problem.space.plan(child)):
                return child
        return fresh_random_walk(problem, rng)

    def _parent(self, alive: deque[tuple[float, Walk]], rng: np.random.Generator) -> Walk:
        drawn = rng.choice(len(alive), min(self._tournament, len(alive)), replace=False)
        return max((alive[int(i)] for i in drawn), key=lambda pair: pair[0])[1]
