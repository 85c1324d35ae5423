"""A policy of Stable-Baselines3 as the planner."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger
from typing_extensions import override

from ...errors import EspalierError
from ...workers import one_thread
from .codes import Walks, WalkTables
from .planners import Planner
from .simulation import Pool
from .walk_env import SimulatedWalks

__all__ = ["PolicyPlanner"]

#: The weight of the entropy goes up or down by this factor after each update, within these bounds.
_ENTROPY_STEP, _ENTROPY_WEIGHTS = 1.3, (1e-3, 0.5)

#: Follow from the number of walks side by side.
_OWN = ("policy", "env", "n_steps", "batch_size", "seed", "device")


class PolicyPlanner(Planner):
    """MaskablePPO (Huang and Ontanon 2022) on simulated walks; it goes on learning from one batch to the next.

    Two things keep it useful as a planner, which is to find many good walks rather than one. The weight of its entropy
    follows the share of its walks that are new. And after each update it imitates the best walks simulated so far
    (self-imitation, Oh et al. 2018).

    Args:
        n_envs: Walks side by side, at least 2.
        iterations: Updates between batches of evaluations; each simulates `n_envs` walks.
        new_share: Share of the walks of an update that should not have been simulated before in this batch.
        imitated: How many of the best walks are imitated after each update; 0 for none.
        imitation_steps: Gradient steps on them; as many on the best evaluated plans before the first update.
        imitation_rate: Learning rate of these steps.
        hyperparameters: Keyword arguments of MaskablePPO beside those that follow from n_envs.

    Raises:
        EspalierError: A number is out of range, or a hyperparameter is unknown.
    """

    def __init__(
        self,
        n_envs: int = 128,
        iterations: int = 8,
        new_share: float = 0.7,
        imitated: int = 32,
        imitation_steps: int = 3,
        imitation_rate: float = 3e-3,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> None:
        if n_envs < 2 or iterations < 1:
            raise EspalierError(f"agent.planner needs n_envs >= 2 and iterations >= 1, got {n_envs} and {iterations}")
        self._hyperparameters = dict(hyperparameters or {})
        known = [name for name in inspect.signature(MaskablePPO).parameters if name not in _OWN]
        if unknown := [name for name in self._hyperparameters if name not in known]:
            raise EspalierError(f"agent.planner has no hyperparameter {unknown[0]!r}; known: {', '.join(known)}")
        self._n_envs = n_envs
        self._iterations = iterations
        self._new_share = new_share
        self._imitated = imitated
        self._imitation_steps = imitation_steps
        self._imitation_rate = imitation_rate
        self._model: MaskablePPO | None = None

    @override
    def begin(self, tables: WalkTables, seed: int) -> None:
        super().begin(tables, seed)
        self._env = SimulatedWalks(tables, self._n_envs)
        length = self._env.episode_length
        self._model = MaskablePPO(
            "MlpPolicy",
            self._env,
            n_steps=length,
            batch_size=length * self._n_envs,
            seed=seed,
            device="cpu",
            **self._hyperparameters,
        )
        self._model.set_logger(Logger(None, []))
        self._imitation = torch.optim.Adam(self._model.policy.parameters(), lr=self._imitation_rate)

    @override
    def policy_state(self) -> dict[str, torch.Tensor]:
        if self._model is None:
            return {}
        return {name: tensor.detach().clone() for name, tensor in self._model.policy.state_dict().items()}

    @override
    def plan(self, pool: Pool, elites: Walks, rng: np.random.Generator) -> None:
        assert self._model is not None
        self._env.value_by(pool)
        # Its products are so small that two threads would be slower than one.
        with one_thread():
            self._train(self._model, pool, elites)

    def _train(self, model: MaskablePPO, pool: Pool, elites: Walks) -> None:
        self._imitate(model, elites)
        for _ in range(self._iterations):
            before = len(pool)
            model.learn(1, reset_num_timesteps=False, log_interval=None)  # type: ignore[arg-type]
            self._keep_exploring(model, (len(pool) - before) / self._n_envs)
            best, _ = pool.ranked()
            self._imitate(model, best[: self._imitated])

    def _keep_exploring(self, model: MaskablePPO, new_share: float) -> None:
        factor = _ENTROPY_STEP if new_share < self._new_share else 1 / _ENTROPY_STEP
        model.ent_coef = float(np.clip(model.ent_coef * factor, *_ENTROPY_WEIGHTS))

    def _imitate(self, model: MaskablePPO, walks: Walks) -> None:
        """Raise the likelihood of walks under the policy."""
        if not self._imitated:
            return
        observations, actions, masks = map(torch.from_numpy, self._env.demonstrations(walks))
        policy = model.policy
        policy.set_training_mode(True)
        for _ in range(self._imitation_steps):
            _, log_likelihood, entropy = policy.evaluate_actions(observations, actions, masks)
            assert entropy is not None
            loss = -log_likelihood.mean() - 0.01 * entropy.mean()
            self._imitation.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._imitation.step()
        policy.set_training_mode(False)
