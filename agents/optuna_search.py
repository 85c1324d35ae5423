"""Optuna's samplers as searchers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from typing_extensions import override

from ..envs.problem import Callback, Problem
from ..errors import EspalierError
from ..evaluation.archive import Evaluation
from ..evaluation.metrics import COSTS
from .searcher import BaseSearcher

__all__ = ["OptunaSearch"]


class OptunaSearch(BaseSearcher):
    """Asks a sampler for plans and tells it what they gave.

    A choice that is closed becomes keep before the plan is evaluated; the sampler learns of it by the reward.

    Args:
        sampler: Makes a sampler of Optuna from a seed.
        objectives: What to optimise: "reward", "accuracy" or costs; more than one for a multi-objective sampler.
        seed: Of the sampler.

    Raises:
        EspalierError: An objective is unknown.
    """

    def __init__(
        self,
        sampler: Callable[..., optuna.samplers.BaseSampler],
        objectives: Sequence[str] = ("reward",),
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        known = ("reward", "accuracy", *COSTS)
        if unknown := [name for name in objectives if name not in known]:
            raise EspalierError(f"unknown objective {unknown[0]!r}; known: {', '.join(known)}")
        self._sampler = sampler
        self._objectives = tuple(objectives)

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        minimize, maximize = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
        directions = [minimize if name in COSTS else maximize for name in self._objectives]
        study = optuna.create_study(sampler=self._sampler(seed=self._seed), directions=directions)
        study.enqueue_trial({site.name: 0 for site in problem.space.sites})
        while True:
            trial = study.ask()
            walk = [self._suggest(trial, problem, position) for position in range(len(problem.space.sites))]
            study.tell(trial, self._values(problem.evaluate_walk(walk)))

    @staticmethod
    def _suggest(trial: optuna.Trial, problem: Problem, position: int) -> int:
        count = len(problem.space.choices[position])
        index: Any = trial.suggest_categorical(problem.space.sites[position].name, range(count))
        return int(index)

    def _values(self, evaluation: Evaluation) -> list[float]:
        metrics = evaluation.metrics
        own = {"reward": evaluation.reward, "accuracy": metrics.accuracy}
        return [own[name] if name in own else metrics.cost(name) for name in self._objectives]
