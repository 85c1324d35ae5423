"""Random plans."""

import numpy as np
from typing_extensions import override

from ..envs.problem import Callback, Problem
from .searcher import BaseSearcher, fresh_random_walk

__all__ = ["RandomSearch"]


class RandomSearch(BaseSearcher):
    """Each site's choice uniform over those that are open; the baseline of baselines."""

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        while True:
            problem.evaluate_walk(fresh_random_walk(problem, rng))
