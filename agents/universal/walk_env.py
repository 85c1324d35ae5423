"""Simulated walks through many worlds under many demands, as a vectorised environment of Stable-Baselines3."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from typing_extensions import override

from ...envs.observation import LIMIT, SLOTS, Observer
from ...evaluation.demand import Demand
from ..masked_walks import MaskedWalks, ranks
from .demands import DemandRecipe
from .walk_batch import Vector, WalkBatch
from .world import World

__all__ = ["ACTIONS", "OBSERVATIONS", "ManyWorlds"]

OBSERVATIONS = spaces.Box(-LIMIT, LIMIT, (Observer.size,), np.float32)
ACTIONS = spaces.Discrete(SLOTS)


@dataclass(frozen=True)
class _Group:
    world: World
    demand: Demand
    batch: WalkBatch


class ManyWorlds(MaskedWalks):
    """Groups of walks; a group draws a world and a demand, walks it, and draws anew.

    A walk is paid at its end with its rank within its group, 0 to 1: rewards of different demands have no common
    measure, but the walks of a group answered the same question.

    Args:
        worlds: To draw from.
        demands: How demands are drawn.
        groups: How many.
        walks: Of each group.
        rng: Draws.
    """

    def __init__(
        self, worlds: Sequence[World], demands: DemandRecipe, groups: int, walks: int, rng: np.random.Generator
    ) -> None:
        self._worlds = worlds
        self._recipe = demands
        self._walks = walks
        self._rng = rng
        super().__init__(groups * walks, OBSERVATIONS, ACTIONS)
        self._groups = [self._drawn() for _ in range(groups)]

    def _drawn(self) -> "_Group":
        world = self._worlds[int(self._rng.integers(len(self._worlds)))]
        demand = self._recipe.draw(self._rng, world.ground.problem.baseline)
        return _Group(world, demand, WalkBatch(world.ground, [demand] * self._walks))

    @override
    def reset(self) -> Vector:
        self._groups = [self._drawn() for _ in self._groups]
        return self._observed()

    def _observed(self) -> Vector:
        return np.concatenate([group.batch.observations() for group in self._groups])

    @override
    def step_async(self, actions: NDArray[np.int64]) -> None:
        self._actions = np.asarray(actions, np.int64).reshape(len(self._groups), -1)

    @override
    def step_wait(self) -> tuple[Vector, Vector, NDArray[np.bool_], list[dict[str, Any]]]:
        rewards = np.zeros((len(self._groups), self._walks), np.float32)
        dones = np.zeros(rewards.shape, bool)
        infos: list[dict[str, Any]] = [{} for _ in range(rewards.size)]
        for i, group in enumerate(self._groups):
            group.batch.choose(self._actions[i])
            if group.batch.is_over:
                rewards[i], dones[i] = ranks(group.world.rewards(group.batch.walks, group.demand)), True
                for row, last in enumerate(group.batch.observations()):
                    infos[i * self._walks + row] = {"terminal_observation": last}
                self._groups[i] = self._drawn()
        return self._observed(), rewards.reshape(-1), dones.reshape(-1), infos

    @override
    def masks(self) -> NDArray[np.bool_]:
        masks: NDArray[np.bool_] = np.concatenate([group.batch.masks() for group in self._groups])
        return masks
