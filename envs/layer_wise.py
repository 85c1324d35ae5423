"""The walk as a Gymnasium environment: one discrete choice per step."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from typing_extensions import override

from ..evaluation.archive import Evaluation
from .actions import checked_index, step_after_end
from .observation import LIMIT, Observer, SiteView, Vector
from .problem import Problem
from .walk import Walk, open_positions

__all__ = ["LayerWiseEnv", "episode_info"]


def episode_info(evaluation: Evaluation) -> dict[str, Any]:
    """What the last step of an episode says beside the reward: the metrics vector and the plan."""
    return {
        "metrics": evaluation.metrics.to_dict(),
        "plan": evaluation.plan.to_dict(),
        "feasible": evaluation.feasible,
        "evaluation": evaluation.index,
    }


class LayerWiseEnv(gymnasium.Env[Vector, np.int64]):
    """`espalier/LayerWise-v0`: an action is the index of a choice at the site whose turn it is.

    Rewards are 0 until the last site, then the plan's. An action that is closed counts as the nearest open one and is
    reported in `info["invalid_action"]`. There is no randomness: a seed changes nothing but the sampling of actions.

    Args:
        problem: The problem; it counts the evaluations.

    Raises:
        EspalierError: It is no problem. A step raises it, too, at an action outside the action space and after the end
            of an episode.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # Gymnasium declares it so

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._positions = open_positions(problem)
        self._observer = Observer(problem)
        self._walk = Walk(problem, self._observer, self._positions)
        self.observation_space = spaces.Box(-LIMIT, LIMIT, (Observer.size,), np.float32)
        self._n_actions = problem.space.n_actions
        self.action_space = spaces.Discrete(self._n_actions)

    @property
    def episode_length(self) -> int:
        """Steps of an episode."""
        return len(self._positions)

    @property
    def view(self) -> SiteView:
        """What is known of the site whose turn it is."""
        return self._walk.view

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which choices are open at the site whose turn it is, shape (its choices,)."""
        return self._walk.mask

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._walk = Walk(self.problem, self._observer, self._positions)
        return self._walk.observation(), {"site": self.problem.space.sites[self._walk.position].name}

    def actions(self, walk: Sequence[int]) -> list[int]:
        """The actions of an episode that makes the choices of `walk`, one per step."""
        return [walk[position] for position in self._positions]

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions are open now, shape (n_actions,); at least one is."""
        masks = np.zeros(self._n_actions, bool)
        masks[: len(self._walk.mask)] = self._walk.mask
        return masks

    def _checked(self, action: object) -> int:
        if self._walk.is_over:
            raise step_after_end()
        return checked_index(action, self._n_actions)

    @override
    def step(self, action: np.int64) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        index = self._checked(action)
        site = self.problem.space.sites[self._walk.position].name
        was_open = self._walk.choose(index)
        info: dict[str, Any] = {"site": site, "invalid_action": not was_open}
        if not self._walk.is_over:
            return self._walk.observation(), 0.0, False, False, info
        evaluation = self.problem.evaluate_walk(self._walk.indices)
        return self._walk.observation(), evaluation.reward, True, False, info | episode_info(evaluation)
