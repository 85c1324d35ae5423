"""What vectorised environments of simulated walks have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import override

__all__ = ["MaskedWalks", "ranks"]


class MaskedWalks(VecEnv):
    """Walks side by side in one process, with masks where sb3-contrib's algorithms ask for them."""

    render_mode: str | None = None

    @abstractmethod
    def masks(self) -> NDArray[np.bool_]:
        """Which actions are open, shape (walks, actions)."""

    @override
    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        if method_name != "action_masks":
            raise AttributeError(method_name)
        return list(self.masks())

    @override
    def has_attr(self, attr_name: str) -> bool:
        return attr_name == "action_masks"

    @override
    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    @override
    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    @override
    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    @override
    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        return [seed] * self.num_envs

    @override
    def close(self) -> None:
        pass


def ranks(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Share of the values that each is above, equal ones alike."""
    return (np.searchsorted(np.sort(values), values) / len(values)).astype(np.float32)
