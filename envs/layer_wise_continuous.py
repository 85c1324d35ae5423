"""The walk for agents with continuous actions: how strongly to compress."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from typing_extensions import override

from .actions import checked_strength
from .layer_wise import LayerWiseEnv
from .observation import Vector
from .problem import Problem

__all__ = ["LayerWiseContinuousEnv"]


class LayerWiseContinuousEnv(gymnasium.Env[Vector, NDArray[np.float32]]):
    """`espalier/LayerWiseContinuous-v0`: an action in [-1, 1] picks among the open choices, ordered by what they save.

    -1 is the choice that saves least (keep), 1 the one that saves most, by the demand's weights of latency, energy
    and storage; equal shares of the interval belong to each open choice.

    Args:
        problem: The problem; it counts the evaluations.

    Raises:
        EspalierError: As those of `LayerWiseEnv`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # Gymnasium declares it so

    def __init__(self, problem: Problem) -> None:
        self._discrete = LayerWiseEnv(problem)
        self.problem = problem
        weights = problem.demand.weights
        self._weights = np.array([weights.latency, weights.energy, weights.storage]) + 1e-3
        self.observation_space = self._discrete.observation_space
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    @property
    def episode_length(self) -> int:
        """Steps of an episode."""
        return self._discrete.episode_length

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._discrete.reset(seed=seed, options=options)

    @override
    def step(self, action: NDArray[np.float32]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        return self._discrete.step(np.int64(self.choice(checked_strength(action))))

    def choice(self, strength: float) -> int:
        """The index of the choice that a strength in [-1, 1] stands for at the site whose turn it is."""
        view = self._discrete.view
        opened = np.flatnonzero(self._discrete.mask)
        ordered = opened[np.argsort(view.savings[opened] @ self._weights, kind="stable")]
        share = (min(max(strength, -1.0), 1.0) + 1) / 2
        return int(ordered[min(int(share * len(ordered)), len(ordered) - 1)])
