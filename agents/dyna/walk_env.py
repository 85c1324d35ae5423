"""Many simulated walks at once, as a vectorised environment of Stable-Baselines3."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from typing_extensions import override

from ..masked_walks import MaskedWalks, ranks
from .codes import Walks, WalkTables
from .simulation import Pool

__all__ = ["SimulatedWalks"]

Vector = NDArray[np.float32]

_SUMMARIES = 3


class SimulatedWalks(MaskedWalks):
    """All walks are at the same site; the last step ends all episodes and pays each its rank among them, 0 to 1.

    Ranks tell the best walks apart as well when all are good as when most are hopeless; values would not.
    An observation is the site whose turn it is and the choices made so far, one-hot, then the sum of the errors so far,
    its logarithm and the largest. There is no Python loop over walks.

    Args:
        tables: Of the space.
        n_envs: Walks side by side.
    """

    def __init__(self, tables: WalkTables, n_envs: int) -> None:
        self._tables = tables
        self._positions = tables.open_positions
        counts = [tables.counts[position] for position in self._positions]
        self._offsets = len(counts) + np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._size = len(counts) + sum(counts) + _SUMMARIES
        self._n_actions = max(counts)
        self._pool: Pool | None = None
        super().__init__(
            n_envs, spaces.Box(-np.inf, np.inf, (self._size,), np.float32), spaces.Discrete(self._n_actions)
        )
        self._start(n_envs)

    @property
    def episode_length(self) -> int:
        """Steps of an episode."""
        return len(self._positions)

    def value_by(self, pool: Pool) -> None:
        """Pay by this pool from now on."""
        self._pool = pool

    def _start(self, count: int) -> None:
        self._walks = np.zeros((count, len(self._tables.counts)), np.int64)
        self._observations = np.zeros((count, self._size), np.float32)
        self._observations[:, 0] = 1.0
        self._errors = np.zeros((count, 2))
        self._step = 0
        self._show_errors()

    def _show_errors(self) -> None:
        total, largest = self._errors.T
        self._observations[:, -_SUMMARIES:] = np.stack([total, np.log(total + 0.05) / 3, largest], 1)

    @override
    def masks(self) -> NDArray[np.bool_]:
        masks = np.zeros((len(self._walks), self._n_actions), bool)
        opened = self._tables.masks(self._positions[self._step], self._walks)
        masks[:, : opened.shape[1]] = opened
        return masks

    def _choose(self, actions: NDArray[np.int64]) -> None:
        rows, position = np.arange(len(actions)), self._positions[self._step]
        self._walks[:, position] = actions
        errors = self._tables.site_errors(position, self._walks)[rows, actions]
        self._errors = np.stack([self._errors[:, 0] + errors, np.maximum(self._errors[:, 1], errors)], 1)
        self._observations[rows, self._offsets[self._step] + actions] = 1.0
        self._observations[:, self._step] = 0.0
        self._step += 1
        if self._step < len(self._positions):
            self._observations[:, self._step] = 1.0
        self._show_errors()

    def demonstrations(self, walks: Walks) -> tuple[Vector, NDArray[np.int64], NDArray[np.bool_]]:
        """Observations, actions and masks of all steps of the given walks; a walk under way is lost.

        Args:
            walks: Canonical.
        """
        self._start(len(walks))
        steps = []
        for position in self._positions:
            steps.append((self._observations.copy(), walks[:, position], self.masks()))
            self._choose(walks[:, position])
        self._start(self.num_envs)
        observations, actions, masks = (np.concatenate(part) for part in zip(*steps, strict=True))
        return observations, actions, masks

    @override
    def reset(self) -> Vector:
        self._start(self.num_envs)
        return self._observations.copy()

    @override
    def step_async(self, actions: NDArray[np.int64]) -> None:
        self._actions = np.asarray(actions, np.int64).reshape(-1)

    @override
    def step_wait(self) -> tuple[Vector, Vector, NDArray[np.bool_], list[dict[str, Any]]]:
        self._choose(self._actions)
        if self._step < len(self._positions):
            nothing = np.zeros(self.num_envs, np.float32)
            return self._observations.copy(), nothing, np.zeros(self.num_envs, bool), [{} for _ in nothing]
        assert self._pool is not None
        rewards = ranks(self._pool(self._walks))
        infos: list[dict[str, Any]] = [{"terminal_observation": last} for last in self._observations]
        first = self.reset()
        return first, rewards, np.ones(self.num_envs, bool), infos
