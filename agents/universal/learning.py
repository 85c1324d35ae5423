"""A search that ends with a policy for every demand instead of the best plan for one."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from typing_extensions import override

from ...envs.problem import BudgetExhausted, Callback, Problem
from ...errors import EspalierError
from ...evaluation.evaluator import LocalEvaluator
from ...hw_models.cost import HardwareModel
from ..dyna.codes import WalkTables
from ..dyna.start import additive_minima, first_walks
from ..searcher import BaseSearcher, fresh_random_walk
from .policy import UniversalPolicy
from .training import TrainingRecipe, train_policy
from .world import World, learnt_accuracy

__all__ = ["UniversalTraining", "on_device"]


class UniversalTraining(BaseSearcher):
    """Spends the budget on plans spread over the space, learns accuracy from them, trains a policy and writes it.

    Args:
        file: Where the policy is written.
        devices: Devices to learn for beside the search's own.
        recipe: How to train.
        seed: Of all decisions.
    """

    def __init__(
        self,
        file: str,
        devices: Mapping[str, HardwareModel] | None = None,
        recipe: TrainingRecipe | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self._file = Path(file)
        self._devices = dict(devices or {})
        self._recipe = recipe or TrainingRecipe()
        self._policy: UniversalPolicy | None = None

    @override
    def policy_state(self) -> dict[str, torch.Tensor]:
        return {} if self._policy is None else self._policy.state()

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        with contextlib.suppress(BudgetExhausted):
            tables, minima = WalkTables(problem.bank), additive_minima(problem)
            for walk in first_walks(tables, minima, problem.budget or 1, True, rng).tolist():
                problem.evaluate_walk(walk)
            while problem.remaining > 0:
                problem.evaluate_walk(fresh_random_walk(problem, rng))
        accuracy = learnt_accuracy(problem, problem.archive, rng)
        problems = {"own": problem} | {name: on_device(problem, device) for name, device in self._devices.items()}
        worlds = {name: World(one, accuracy, rng) for name, one in problems.items()}
        self._policy = train_policy(worlds, self._recipe, self._seed)
        self._policy.save(self._file)


def on_device(problem: Problem, device: HardwareModel) -> Problem:
    """The same problem with the costs of another device.

    Raises:
        EspalierError: Its evaluator knows one device only.
    """
    if not isinstance(problem.evaluator, LocalEvaluator):
        raise EspalierError(f"{type(problem.evaluator).__name__} knows one device only: set agent.devices={{}}")
    evaluator = problem.evaluator.on(device)
    evaluator.prepare()
    return Problem(problem.bank, evaluator, problem.reward, problem.demand, device)
