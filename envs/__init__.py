"""The decision process: environments, observations, rewards."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = ["ACTIONS", "register_environments"]

_ENTRY_POINTS = {
    "espalier/LayerWise-v0": "espalier.envs.layer_wise:LayerWiseEnv",
    "espalier/LayerWiseContinuous-v0": "espalier.envs.layer_wise_continuous:LayerWiseContinuousEnv",
    "espalier/OneShot-v0": "espalier.envs.one_shot:OneShotEnv",
}

#: Name of an environment -> an action space of the kind that it has, whatever the network.
ACTIONS: dict[str, spaces.Space[Any]] = {
    "espalier/LayerWise-v0": spaces.Discrete(2),
    "espalier/LayerWiseContinuous-v0": spaces.Box(-1.0, 1.0, (1,), np.float32),
    "espalier/OneShot-v0": spaces.MultiDiscrete([2]),
}


def register_environments() -> None:
    """Make the environments known to `gymnasium.make`; doing it twice is harmless."""
    for name, entry_point in _ENTRY_POINTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=entry_point)


register_environments()
