"""Any algorithm of Stable-Baselines3 or sb3-contrib as a searcher."""

import importlib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from typing_extensions import override

from ..envs import ACTIONS, register_environments
from ..envs.problem import Callback, Problem
from ..errors import EspalierError
from .cloning import clone
from .prior import PriorRecipe, propose_elites
from .searcher import BaseSearcher, Walk, fresh_random_walk, mutated

__all__ = ["CloningRecipe", "StableBaselines3", "algorithm_class"]

#: The environment whose episodes are cloned.
_CLONABLE = "espalier/LayerWise-v0"


@dataclass(frozen=True)
class CloningRecipe:
    """A start from plans that the layers' own errors suggest.

    Attributes:
        steps: Gradient steps.
        prior: How the plans are found.
    """

    steps: int = 60
    prior: PriorRecipe = field(default_factory=PriorRecipe)


class StableBaselines3(BaseSearcher):
    """Trains a policy on the environment; whatever it walks is evaluated and kept.

    Args:
        algorithm: Class path, such as "sb3_contrib.MaskablePPO".
        environment: Name of a registered environment.
        policy: Policy of the algorithm.
        hyperparameters: Keyword arguments of the algorithm. A mapping {episodes: n} stands for n times the steps of an
            episode, which differ from network to network.
        cloning: How to start; None to start from nothing. For on-policy algorithms on LayerWise.
        max_episodes_per_evaluation: Episodes, as a multiple of the budget, after which learning stops: agents repeat
            plans, and plans that are known are no evaluations.
        max_repeats: Episodes in a row that bring no new plan, after which the policy is taken to have converged. What
            is left of the budget goes to plans that differ from the best at one or two sites.
        seed: Of the policy and of all decisions.

    Attributes:
        model: The trained algorithm after a search; None before.

    Raises:
        EspalierError: The class path leads to no algorithm, or an argument is not one of its own.
    """

    def __init__(
        self,
        algorithm: str,
        environment: str = _CLONABLE,
        policy: str = "MlpPolicy",
        hyperparameters: Mapping[str, Any] | None = None,
        *,
        cloning: CloningRecipe | None = None,
        max_episodes_per_evaluation: int = 10,
        max_repeats: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self._class = algorithm_class(algorithm)
        self._environment = environment
        self._policy = policy
        self._hyperparameters = dict(hyperparameters or {})
        self._check_hyperparameters(algorithm)
        if cloning is not None and environment != _CLONABLE:
            raise EspalierError(f"agent.cloning needs {_CLONABLE}, got {environment}; set agent.cloning=null")
        self._check_actions()
        self._cloning = cloning
        self._max_episodes = max_episodes_per_evaluation
        self._max_repeats = max_repeats
        self.model: BaseAlgorithm | None = None

    def _check_hyperparameters(self, algorithm: str) -> None:
        known = list(inspect.signature(self._class).parameters)
        if unknown := [name for name in self._hyperparameters if name not in known]:
            raise EspalierError(f"{algorithm} has no hyperparameter {unknown[0]!r}; known: {', '.join(known)}")

    def _check_actions(self) -> None:
        """Refuse at once what Stable-Baselines3 would refuse after the bank was built."""
        if self._environment in ACTIONS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._make(_Actions(ACTIONS[self._environment]), 1, _init_setup_model=False)

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        register_environments()
        env = gymnasium.make(self._environment, problem=problem, disable_env_checker=True)
        episode_length: int = env.get_wrapper_attr("episode_length")
        self.model = self._make(env, episode_length)
        self.model.set_logger(Logger(None, [_TrainingWriter(callback)]))
        if self._cloning is not None:
            elites = propose_elites(problem, self._cloning.prior, rng)
            clone(self.model, problem, elites, self._cloning.steps)
        assert problem.budget is not None
        steps = self._max_episodes * problem.budget * episode_length
        self.model.learn(steps, callback=_StopWhenConverged(problem, self._max_repeats), log_interval=1)
        _polish(problem, rng)

    def _make(self, env: gymnasium.Env[Any, Any], episode_length: int, **others: Any) -> BaseAlgorithm:
        arguments = others | {name: _in_steps(value, episode_length) for name, value in self._hyperparameters.items()}
        try:
            return self._class(self._policy, env, seed=self._seed, device="cpu", verbose=0, **arguments)
        except (AssertionError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            if "as action spaces but" in reason:
                raise EspalierError(self._wrong_actions(reason)) from error
            raise EspalierError(f"{self._class.__name__} cannot be set up on {self._environment}: {reason}") from error

    def _wrong_actions(self, reason: str) -> str:
        """Stable-Baselines3 names the spaces that the algorithm takes, then the environment's."""
        takes = reason.partition("as action spaces but")[0]
        takes_continuous = "box.Box" in takes and "discrete" not in takes
        kind, option = ("continuous", "layer_wise_continuous") if takes_continuous else ("discrete", "layer_wise")
        return f"{self._class.__name__} needs {kind} actions: choose env={option}, got {self._environment}"

    @override
    def policy_state(self) -> dict[str, torch.Tensor]:
        if self.model is None:
            return {}
        return {name: tensor.detach().clone() for name, tensor in self.model.policy.state_dict().items()}


def algorithm_class(path: str) -> type[BaseAlgorithm]:
    """The algorithm at a class path.

    Raises:
        EspalierError: There is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EspalierError(f"agent.algorithm={path!r} cannot be imported: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, BaseAlgorithm)):
        raise EspalierError(f"agent.algorithm={path!r} is no algorithm of Stable-Baselines3")
    return found


def _in_steps(value: Any, episode_length: int) -> Any:
    if isinstance(value, Mapping) and set(value) == {"episodes"}:
        return max(2, round(value["episodes"] * episode_length))
    if isinstance(value, list) and len(value) == 2 and value[1] in ("step", "episode"):
        return value[0], value[1]
    return value


class _Actions(gymnasium.Env[Any, Any]):
    """An environment of which nothing is known but its action space."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)


class _StopWhenConverged(BaseCallback):
    def __init__(self, problem: Problem, max_repeats: int) -> None:
        super().__init__()
        self._problem = problem
        self._max_repeats = max_repeats
        self._known = 0
        self._repeats = 0

    @override
    def _on_step(self) -> bool:
        self._repeats += int(np.sum(self.locals["dones"]))
        if len(self._problem.archive) > self._known:
            self._known, self._repeats = len(self._problem.archive), 0
        return self._repeats < self._max_repeats


class _TrainingWriter(KVWriter):
    """Hands the algorithm's training metrics on."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    @override
    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        numbers = {name: float(v) for name, v in key_values.items() if isinstance(v, int | float | np.number)}
        self._callback.trained({name: v for name, v in numbers.items() if name.startswith(("train/", "rollout/"))})

    @override
    def close(self) -> None:
        pass


def _polish(problem: Problem, rng: np.random.Generator) -> None:
    """Spend what is left of the budget around the best plan."""
    while problem.remaining > 0:
        best: Walk = problem.space.indices(problem.archive.best()[0].plan)
        child = mutated(problem, best, rng, 1 + int(rng.random() < 0.5))
        if problem.is_known(problem.space.plan(child)):
            child = fresh_random_walk(problem, rng) if rng.random() < 0.1 else child
        problem.evaluate_walk(child)
