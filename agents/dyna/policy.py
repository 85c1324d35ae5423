"""A policy of Stable-Baselines3 as the planner."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger
from typing_extensions import override

from .codes import Walks, WalkTables
from .planners import Planner
from .simulation import Pool
from .walk_env import SimulatedWalks

__all__ = ["PolicyPlanner"]

#: Random walks that tell the scale of the rewards.
_SCALE_WALKS = 128

_FASTER = 1.3

#: Least and largest weight of the entropy.
_ENTROPY_WEIGHTS = (1e-3, 0.5)


class PolicyPlanner(Planner):
    """MaskablePPO on simulated walks; it goes on learning from one batch of evaluations to the next.

    Args:
        n_envs: Walks side by side.
        iterations: Updates between evaluations; each simulates n_envs walks.
        cloning_steps: Gradient steps on the elites before them.
        new_share: Share of the walks of an iteration that should be new; the weight of the policy's entropy follows it.
        hyperparameters: Keyword arguments of MaskablePPO beside n_steps and batch_size, which follow from n_envs.
    """

    def __init__(
        self,
        n_envs: int = 128,
        iterations: int = 8,
        cloning_steps: int = 10,
        new_share: float = 0.5,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> None:
        self._n_envs = n_envs
        self._iterations = iterations
        self._cloning_steps = cloning_steps
        self._new_share = new_share
        self._hyperparameters = dict(hyperparameters or {})
        self.model: MaskablePPO | None = None

    @override
    def begin(self, tables: WalkTables, seed: int) -> None:
        super().begin(tables, seed)
        self._env = SimulatedWalks(tables, self._n_envs)
        length = self._env.episode_length
        own = {"n_steps": length, "batch_size": length * self._n_envs}
        self.model = MaskablePPO("MlpPolicy", self._env, seed=seed, device="cpu", **own, **self._hyperparameters)
        self.model.set_logger(Logger(None, []))
        self._cloning = torch.optim.Adam(self.model.policy.parameters(), lr=3e-3)

    @override
    def plan(self, pool: Pool, elites: Walks, rng: np.random.Generator) -> None:
        self._env.value_by(pool, self._tables.random(_SCALE_WALKS, rng))
        self._clone(elites)
        for _ in range(self._iterations):
            before = len(pool)
            self.model.learn(1, reset_num_timesteps=False, log_interval=None)
            self._keep_exploring((len(pool) - before) / self._n_envs)

    def _keep_exploring(self, new_share: float) -> None:
        """Move the weight of the entropy so that the share of walks that are new stays near the target."""
        factor = _FASTER if new_share < self._new_share else 1 / _FASTER
        self.model.ent_coef = float(np.clip(self.model.ent_coef * factor, *_ENTROPY_WEIGHTS))

    def _clone(self, walks: Walks) -> None:
        """Raise the likelihood of walks under the policy."""
        arrays = self._env.demonstrations(walks)
        observations, actions, masks = (torch.from_numpy(array) for array in arrays)
        policy = self.model.policy
        policy.set_training_mode(True)
        for _ in range(self._cloning_steps):
            _, log_likelihood, entropy = policy.evaluate_actions(observations, actions, masks)
            loss = -log_likelihood.mean() - 0.01 * entropy.mean()
            self._cloning.zero_grad()
            loss.backward()
            self._cloning.step()
        policy.set_training_mode(False)
