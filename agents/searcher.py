"""What decides which plans are evaluated; an author of a new one writes one module and one YAML file."""

import contextlib
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
from torch import Tensor

from ..envs.problem import BudgetExhausted, Callback, Problem
from ..evaluation.archive import Archive

__all__ = ["BaseSearcher", "Searcher", "Walk", "fresh_random_walk", "mutated"]

#: Choice indices, one per site.
Walk = tuple[int, ...]


class Searcher(Protocol):
    """Looks for good plans."""

    def search(self, problem: Problem, budget: int, callback: Callback | None = None) -> Archive:
        """Evaluate at most `budget` different plans.

        Args:
            problem: What to solve; it counts.
            budget: How many plans may be evaluated, the one that keeps everything included.
            callback: Told of each evaluation.

        Returns:
            Everything that was evaluated.
        """


class BaseSearcher(ABC, Searcher):
    """A searcher that proposes plans until the problem says that the budget is spent.

    Args:
        seed: Of all its decisions.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def search(self, problem: Problem, budget: int, callback: Callback | None = None) -> Archive:
        """Evaluate at most `budget` different plans; see `Searcher`."""
        with contextlib.suppress(BudgetExhausted):
            problem.begin(budget, callback)
            self._run(problem, np.random.default_rng(self._seed), callback or Callback())
        return problem.archive

    def policy_state(self) -> dict[str, Tensor]:
        """Weights of what was learnt, for the checkpoint; empty where nothing is."""
        return {}

    @abstractmethod
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        """Evaluate plans through `problem` until it raises BudgetExhausted, or return when nothing is left to try."""


def mutated(problem: Problem, walk: Walk, rng: np.random.Generator, changes: int = 1) -> Walk:
    """A walk with other choices at up to `changes` random sites."""
    changed = list(walk)
    sites = [p for p, choices in enumerate(problem.space.choices) if len(choices) > 1]
    for position in rng.choice(sites, min(changes, len(sites)), replace=False):
        opened = np.flatnonzero(problem.space.mask(int(position), changed))
        others = opened[opened != changed[position]]
        if len(others):
            changed[position] = int(rng.choice(others))
    return problem.space.canonical(changed)


def fresh_random_walk(problem: Problem, rng: np.random.Generator, tries: int = 50) -> Walk:
    """A random walk whose plan is not known yet, or any walk when `tries` were all known."""
    walk = problem.space.random(rng)
    for _ in range(tries):
        if not problem.is_known(problem.space.plan(walk)):
            break
        walk = problem.space.random(rng)
    return walk
