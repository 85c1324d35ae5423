"""The decision process: environments, observations, rewards."""

import gymnasium

__all__ = ["register_environments"]

_ENTRY_POINTS = {
    "espalier/LayerWise-v0": "espalier.envs.layer_wise:LayerWiseEnv",
    "espalier/LayerWiseContinuous-v0": "espalier.envs.layer_wise_continuous:LayerWiseContinuousEnv",
    "espalier/OneShot-v0": "espalier.envs.one_shot:OneShotEnv",
}


def register_environments() -> None:
    """Make the environments known to `gymnasium.make`; doing it twice is harmless."""
    for name, entry_point in _ENTRY_POINTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=entry_point)


register_environments()
