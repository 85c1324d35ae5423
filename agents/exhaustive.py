"""All plans, one after the other."""

import itertools

import numpy as np
from typing_extensions import override

from ..envs.problem import Callback, Problem
from ..errors import EspalierError
from ..evaluation.archive import Archive
from .searcher import BaseSearcher

__all__ = ["ExhaustiveSearch"]


class ExhaustiveSearch(BaseSearcher):
    """Evaluates the whole space, for spaces that are small enough to be known completely.

    Args:
        limit: The largest space that is accepted.
        seed: Accepted like every searcher's; nothing is random here.
    """

    def __init__(self, limit: int = 100_000, seed: int = 0) -> None:
        super().__init__(seed)
        self._limit = limit

    @override
    def search(self, problem: Problem, budget: int, callback: Callback | None = None) -> Archive:
        """Refuse a space that is too large before anything is evaluated."""
        if problem.space.size > self._limit:
            raise EspalierError(
                f"agent=exhaustive takes spaces of up to {self._limit:,} plans, this one has {problem.space.size:,}; "
                "narrow it with space.include or fewer techniques, or raise agent.limit"
            )
        return super().search(problem, budget, callback)

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        for walk in itertools.product(*(range(len(choices)) for choices in problem.space.choices)):
            if problem.space.canonical(walk) == walk:
                problem.evaluate_walk(walk)
