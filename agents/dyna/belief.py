"""What is known after the evaluations so far, and what it makes of plans that were not evaluated."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...envs.problem import Problem
from ...evaluation.archive import Evaluation
from .codes import Walks, WalkTables
from .objective import Objective
from .surrogate import AccuracySurrogate, FeatureMap, Scales, logit

__all__ = ["Belief", "BeliefRecipe"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BeliefRecipe:
    """What a search believes in; each part can be left out.

    Attributes:
        errors: Whether the layers' own errors tell of accuracy before anything is evaluated.
        exact_costs: Whether accuracy is learnt and costs are computed; without it the reward is learnt as a whole.
        interactions: Whether plans that differ at few sites share more than their choices.
        margin: Accuracy that a plan may have beyond the highest seen, 0 to 1.
    """

    errors: bool = True
    exact_costs: bool = True
    interactions: bool = True
    margin: float = 0.01

    def scales(self) -> Scales:
        """Variances to start from."""
        scales = Scales() if self.interactions else replace(Scales(), interactions=0.0)
        return scales if self.errors else replace(scales, errors=0.0, summaries=0.0)


class Belief:
    """The evaluated plans, the surrogate learnt from them, and the objective.

    Args:
        problem: What is solved.
        recipe: What to believe in.
        rng: Of what is drawn to set tables and features up.

    Attributes:
        tables: The space as tables.
        objective: Rewards and costs of walks.
        walks: Evaluated walks in order, shape (n, sites).
        rewards: Of them, shape (n,).
        accuracies: Of them, shape (n,).
    """

    def __init__(self, problem: Problem, recipe: BeliefRecipe, rng: np.random.Generator) -> None:
        self._recipe = recipe
        self.tables = WalkTables(problem.bank)
        self.objective = Objective(problem, self.tables, rng)
        self._surrogate = AccuracySurrogate(FeatureMap(self.tables, recipe.errors, rng), recipe.scales())
        self.walks: Walks = np.zeros((0, len(self.tables.counts)), np.int64)
        self.rewards: Floats = np.zeros(0)
        self.accuracies: Floats = np.zeros(0)
        self._keys: set[bytes] = set()

    @property
    def scales(self) -> Scales:
        """Of the surrogate, as last learnt."""
        return self._surrogate.scales

    def add(self, walk: Walks, evaluation: Evaluation) -> None:
        """Remember an evaluated canonical walk of shape (sites,)."""
        self._keys.add(walk.tobytes())
        self.walks = np.concatenate([self.walks, walk[None]])
        self.rewards = np.append(self.rewards, evaluation.reward)
        self.accuracies = np.append(self.accuracies, evaluation.metrics.accuracy)

    def learn(self) -> None:
        """Fit the surrogate to everything evaluated."""
        if self._recipe.exact_costs:
            self._surrogate.fit(self.walks, logit(self.accuracies))
        else:
            self._surrogate.fit(self.walks, (self.rewards - self.rewards.mean()) / (self.rewards.std() + 1e-9))

    def imagining(self, walks: Walks) -> "Belief":
        """The same after evaluations of walks (n, sites) that gave just what is expected."""
        if len(walks) == 0:
            return self
        twin = object.__new__(Belief)
        twin.__dict__ |= self.__dict__ | {"_surrogate": self._surrogate.imagining(walks)}
        return twin

    def elites(self, count: int) -> Walks:
        """The evaluated walks of highest reward, best first."""
        return self.walks[np.argsort(-self.rewards, kind="stable")[:count]]

    def is_new(self, walks: Walks) -> NDArray[np.bool_]:
        """Which walks were not evaluated, shape (walks,)."""
        return np.array([walk.tobytes() not in self._keys for walk in walks], bool)

    @property
    def highest_accuracy(self) -> float:
        """What no plan is believed to exceed."""
        return min(1.0, float(self.accuracies.max()) + self._recipe.margin)

    def accuracy_bounds(self, walks: Walks, kappa: float) -> Floats:
        """Upper confidence bounds of the accuracy, `kappa` standard deviations up, shape (walks,)."""
        mean, deviation = self._surrogate.predict(walks)
        return np.minimum(1 / (1 + np.exp(-mean - kappa * deviation)), self.highest_accuracy)

    def values(self, walks: Walks, kappa: float) -> Floats:
        """Upper confidence bounds of the reward, shape (walks,)."""
        if self._recipe.exact_costs:
            return self.objective.rewards(walks, self.accuracy_bounds(walks, kappa))
        mean, deviation = self._surrogate.predict(walks)
        return mean + kappa * deviation

    def can_win(self, walks: Walks) -> NDArray[np.bool_]:
        """Which walks would beat the best one if they had the highest accuracy believed in, shape (walks,)."""
        if not self._recipe.exact_costs:
            return np.ones(len(walks), bool)
        highest = self.objective.rewards(walks, np.full(len(walks), self.highest_accuracy))
        wins: NDArray[np.bool_] = highest > self.rewards.max()
        return wins
