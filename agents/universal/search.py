"""Searchers that ask a trained policy: alone, or as the start of Dyna."""

from pathlib import Path

import numpy as np
import torch
from typing_extensions import override

from ...envs.problem import Callback, Problem
from ...errors import EspalierError
from ..dyna.belief import Belief
from ..dyna.codes import Walks
from ..dyna.planners import Planner
from ..dyna.search import DynaRecipe, DynaSearch
from ..dyna.simulation import unique_rows
from ..searcher import BaseSearcher, fresh_random_walk
from .policy import UniversalPolicy
from .walk_batch import Ground

__all__ = ["UniversalDyna", "UniversalSearch"]

#: Draws above which the policy has no more to say.
_HOTTEST = 8.0


class UniversalSearch(BaseSearcher):
    """Evaluates the policy's greedy walk, then its samples, the likeliest first; nothing is trained.

    Where all samples are known, hotter ones follow, and at last random walks.

    Args:
        policy: A file of `UniversalPolicy`.
        samples: Walks drawn at a time.
        seed: Of the samples.
    """

    def __init__(self, policy: str, samples: int = 256, seed: int = 0) -> None:
        super().__init__(seed)
        if samples < 1:
            raise EspalierError(f"agent.samples must be at least 1, got {samples}")
        self._policy = UniversalPolicy.load(Path(policy))
        self._samples = samples

    @override
    def policy_state(self) -> dict[str, torch.Tensor]:
        return self._policy.state()

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        ground = Ground(problem)
        problem.evaluate_walk(self._policy.greedy(problem)[0].tolist())
        temperature = 1.0
        while temperature <= _HOTTEST:
            for walk in self._policy.sample(ground, self._samples, rng, temperature).tolist():
                problem.evaluate_walk(walk)
            temperature *= 2
        while problem.remaining > 0:
            problem.evaluate_walk(fresh_random_walk(problem, rng))


class UniversalDyna(DynaSearch):
    """Dyna that begins with walks of the policy, the greedy one first, among walks spread over the space.

    Args:
        planner: As `DynaSearch`.
        policy: A file of `UniversalPolicy`.
        trusted: How many of the plans that the search begins with are the policy's.
        recipe: As `DynaSearch`.
        seed: Of all decisions.
    """

    def __init__(
        self, planner: Planner, policy: str, trusted: int = 5, recipe: DynaRecipe | None = None, seed: int = 0
    ) -> None:
        super().__init__(planner, recipe, seed)
        if not 0 <= trusted < self._recipe.start:
            raise EspalierError(f"agent.trusted must be from 0 to recipe.start - 1, got {trusted}")
        self._policy = UniversalPolicy.load(Path(policy))
        self._trusted = trusted

    @override
    def _first_walks(self, problem: Problem, belief: Belief, minima: Walks, rng: np.random.Generator) -> Walks:
        spread = super()._first_walks(problem, belief, minima, rng)
        ours = np.concatenate([self._policy.greedy(problem), self._policy.sample(Ground(problem), 64, rng)])
        ours = unique_rows(ours)[: self._trusted]
        return unique_rows(np.concatenate([spread[:1], ours, spread[1:]]))[: self._recipe.start]
