"""Plans worth starting from: what the layers' own errors and a few evaluations tell."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..envs.problem import Problem
from .additive import AdditiveModel
from .searcher import Walk, mutated

__all__ = ["PriorRecipe", "propose_elites"]

_NOISE_VARIANCE = 0.02

#: Powers of the errors that additive plans are made with; the first one is also what the surrogate adds up.
_EXPONENTS = (1.5, 2.0)


@dataclass(frozen=True)
class PriorRecipe:
    """How to find plans to start from.

    Attributes:
        evaluations: Plans that are evaluated, spread over the summed error; they count like any other.
        elites: How many plans to propose.
        candidates: Plans per generation of the evolution on the predicted reward.
        generations: Generations of it.
        prices: Plans of the additive model that the evolution starts from beside the evaluated ones, per exponent.
    """

    evaluations: int = 10
    elites: int = 16
    candidates: int = 60
    generations: int = 12
    prices: int = 12


def propose_elites(problem: Problem, recipe: PriorRecipe, rng: np.random.Generator) -> list[Walk]:
    """Evaluate a few plans, predict the accuracy of others from their layers' errors, and find the best by evolution.

    Costs are exact; the accuracy is predicted by ridge regression of its logit on the sum of the errors to the
    power 1.5, its logarithm and the largest error.

    Args:
        problem: The problem, whose search has begun.
        recipe: How.
        rng: Of all decisions.

    Returns:
        Walks in order of falling predicted reward.

    Raises:
        BudgetExhausted: The evaluations did not fit in the budget.
    """
    seen = [(walk, problem.evaluate_walk(walk).metrics.accuracy) for walk in _spread(problem, recipe, rng)]
    surrogate = _Surrogate(problem, seen)
    walks = [*(walk for walk, _ in seen), *_additive_minima(problem, recipe)]
    population = {walk: surrogate.reward(walk) for walk in walks}
    for _ in range(recipe.generations):
        parents = sorted(population, key=lambda walk: -population[walk])[: recipe.elites]
        children = (
            mutated(problem, parents[int(rng.integers(len(parents)))], rng, 1 + int(rng.integers(2)))
            for _ in range(recipe.candidates)
        )
        population |= {walk: surrogate.reward(walk) for walk in children if walk not in population}
    return sorted(population, key=lambda walk: -population[walk])[: recipe.elites]


def _additive_minima(problem: Problem, recipe: PriorRecipe) -> list[Walk]:
    """Plans on the path of the additive model, from dear errors to dear costs."""
    model = AdditiveModel(problem)
    prices = np.geomspace(0.01, 10, recipe.prices)
    return list(dict.fromkeys(model.minimum(float(price), exponent) for exponent in _EXPONENTS for price in prices))


def _spread(problem: Problem, recipe: PriorRecipe, rng: np.random.Generator) -> list[Walk]:
    """Keeping everything, and random plans at even ranks of the summed error."""
    keep: Walk = (0,) * len(problem.space.sites)
    drawn = [_tempered(problem, rng) for _ in range(20 * recipe.evaluations)]
    drawn = sorted(set(drawn), key=lambda walk: sum(problem.errors(walk)))
    ranks = np.linspace(0, len(drawn) - 1, max(0, recipe.evaluations - 1)).round().astype(int)
    return list(dict.fromkeys([keep, *(drawn[rank] for rank in ranks)]))


def _tempered(problem: Problem, rng: np.random.Generator) -> Walk:
    """A random walk that compresses a random share of the sites."""
    share = rng.random()
    walk = problem.space.random(rng)
    return problem.space.canonical([index if rng.random() < share else 0 for index in walk])


class _Surrogate:
    def __init__(self, problem: Problem, seen: list[tuple[Walk, float]]) -> None:
        self._problem = problem
        features = np.array([self._features(walk) for walk, _ in seen])
        self._mean, self._scale = features.mean(0), features.std(0) + 1e-9
        design = self._design(features)
        logits = np.array([_logit(accuracy) for _, accuracy in seen])
        precision = design.T @ design + _NOISE_VARIANCE * len(seen) * np.diag([0.0, 1.0, 1.0, 1.0])
        self._weights = np.linalg.solve(precision + 1e-9 * np.eye(4), design.T @ logits)

    def _features(self, walk: Walk) -> list[float]:
        errors = self._problem.errors(walk)
        total = sum(error ** _EXPONENTS[0] for error in errors)
        return [np.log(total + 0.01), total, max(errors)]

    def _design(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        standard = (features - self._mean) / self._scale
        return np.concatenate([np.ones((*standard.shape[:-1], 1)), standard], -1)

    def reward(self, walk: Walk) -> float:
        """The reward with the predicted accuracy and the exact costs."""
        logit = float(self._design(np.array(self._features(walk))) @ self._weights)
        accuracy = min(1 / (1 + np.exp(-logit)), self._problem.baseline.accuracy)
        return self._problem.judge(replace(self._problem.costs(walk), accuracy=float(accuracy)))


def _logit(accuracy: float) -> float:
    clipped = min(max(accuracy, 1e-3), 1 - 1e-3)
    return float(np.log(clipped / (1 - clipped)))
