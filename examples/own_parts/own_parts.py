"""An agent and a reward from outside the project: two classes, two YAML files, no fork.

Run from the repository:

    PYTHONPATH=examples/own_parts espalier search --config-dir examples/own_parts/conf \
        agent=annealing reward=green experiment=smoke
"""

import math

import numpy as np
from espalier.agents.searcher import BaseSearcher, mutated
from espalier.envs.problem import Callback, Problem
from espalier.evaluation.demand import Demand
from espalier.evaluation.metrics import Metrics

__all__ = ["AnnealingSearch", "GreenReward"]


class AnnealingSearch(BaseSearcher):
    """Simulated annealing: worse plans are accepted, less and less often (Kirkpatrick et al. 1983).

    Args:
        temperature: Reward that may be lost with probability 1/e at the start.
        cooling: What the temperature is multiplied with after each evaluation.
        seed: Of all decisions.
    """

    def __init__(self, temperature: float = 0.2, cooling: float = 0.97, seed: int = 0) -> None:
        super().__init__(seed)
        self._temperature = temperature
        self._cooling = cooling

    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        walk = (0,) * len(problem.space.sites)
        reward = problem.evaluate_walk(walk).reward
        temperature = self._temperature
        while True:
            child = mutated(problem, walk, rng)
            found = problem.evaluate_walk(child).reward
            if found >= reward or rng.random() < math.exp((found - reward) / temperature):
                walk, reward = child, found
            temperature = max(1e-3, temperature * self._cooling)


class GreenReward:
    """Accuracy minus what is left of the energy.

    Args:
        weight: Accuracy that a whole original's energy is worth.
    """

    def __init__(self, weight: float = 0.1) -> None:
        self._weight = weight

    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        return metrics.accuracy - self._weight * metrics.energy_mj.value / baseline.energy_mj.value
