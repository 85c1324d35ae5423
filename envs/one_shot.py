"""The whole plan in one action."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from typing_extensions import override

from .actions import checked_indices, step_after_end
from .layer_wise import episode_info
from .observation import LIMIT, Observer, Vector
from .problem import Problem
from .walk import Walk, open_positions

__all__ = ["OneShotEnv"]


class OneShotEnv(gymnasium.Env[Vector, NDArray[np.int64]]):
    """`espalier/OneShot-v0`: an action holds the index of a choice for every site that has one; episodes last one step.

    Choices that are closed by earlier ones count as the nearest open one; `info["invalid_actions"]` says how many.

    Args:
        problem: The problem; it counts the evaluations.

    Raises:
        EspalierError: As those of `LayerWiseEnv`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # Gymnasium declares it so

    #: Steps of an episode.
    episode_length = 1

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._positions = open_positions(problem)
        self._observer = Observer(problem)
        self.observation_space = spaces.Box(-LIMIT, LIMIT, (Observer.size,), np.float32)
        self._counts = np.array([len(problem.space.choices[position]) for position in self._positions])
        self.action_space = spaces.MultiDiscrete(self._counts)
        self._is_over = False

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._is_over = False
        return Walk(self.problem, self._observer, self._positions).observation(), {}

    def action_masks(self) -> NDArray[np.bool_]:
        """Which choices are open while all other sites are kept, one site's after the other."""
        nothing = [0] * len(self.problem.space.sites)
        return np.concatenate([self.problem.space.mask(position, nothing) for position in self._positions])

    @override
    def step(self, action: NDArray[np.int64]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        if self._is_over:
            raise step_after_end()
        indices = checked_indices(action, self._counts)
        self._is_over = True
        walk = Walk(self.problem, self._observer, self._positions)
        closed = sum(not walk.choose(int(index)) for index in indices)
        evaluation = self.problem.evaluate_walk(walk.indices)
        info = {"invalid_actions": closed, **episode_info(evaluation)}
        return walk.observation(), evaluation.reward, True, False, info
