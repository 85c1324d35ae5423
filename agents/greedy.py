"""Coordinate ascent."""

import numpy as np
from typing_extensions import override

from ..envs.problem import Callback, Problem
from .searcher import BaseSearcher, Walk, fresh_random_walk

__all__ = ["GreedySearch"]


class GreedySearch(BaseSearcher):
    """Site after site, in random order, takes the choice of highest reward, and goes round until nothing improves.

    It starts at the plan that keeps everything; when it is stuck, it starts again at a random plan.
    """

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        start: Walk = (0,) * len(problem.space.sites)
        while True:
            self._climb(problem, start, rng)
            start = fresh_random_walk(problem, rng)

    @staticmethod
    def _climb(problem: Problem, walk: Walk, rng: np.random.Generator) -> None:
        best = problem.evaluate_walk(walk).reward
        improved = True
        while improved:
            improved = False
            for position in rng.permutation(len(walk)):
                for index in np.flatnonzero(problem.space.mask(int(position), walk)):
                    tried = problem.space.canonical([*walk[:position], int(index), *walk[position + 1 :]])
                    reward = problem.evaluate_walk(tried).reward
                    if reward > best:
                        walk, best, improved = tried, reward, True
