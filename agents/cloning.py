"""Behaviour cloning: a policy learns to repeat given walks before it learns from rewards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..envs.layer_wise import LayerWiseEnv
from ..envs.problem import Problem
from .searcher import Walk

__all__ = ["clone"]


def clone(model: Any, problem: Problem, walks: Sequence[Walk], steps: int, learning_rate: float = 3e-3) -> None:
    """Raise the likelihood of walks under the policy of an on-policy algorithm.

    Args:
        model: An algorithm of Stable-Baselines3 with an actor-critic policy over discrete actions.
        problem: The problem that the walks are for.
        walks: What to repeat.
        steps: Gradient steps, each on all walks.
        learning_rate: Of these steps.
    """
    observations, actions, masks = _demonstrations(problem, walks)
    optimizer = torch.optim.Adam(model.policy.parameters(), lr=learning_rate)
    masked = {"action_masks": masks} if _takes_masks(model) else {}
    model.policy.set_training_mode(True)
    for _ in range(steps):
        _, log_likelihood, entropy = model.policy.evaluate_actions(observations, actions, **masked)
        loss = -log_likelihood.mean() - 0.01 * entropy.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.policy.set_training_mode(False)


def _takes_masks(model: Any) -> bool:
    return "Maskable" in type(model.policy).__name__


def _demonstrations(problem: Problem, walks: Sequence[Walk]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Observations, actions and masks of all steps of all walks, without evaluating any."""
    env = LayerWiseEnv(problem)
    rows: list[tuple[Any, int, Any]] = []
    for walk in walks:
        observation, _ = env.reset()
        for step, action in enumerate(env.actions(walk)):
            if not env.action_masks()[action]:
                break  # no policy can go there: it would break a budget
            rows.append((observation, action, env.action_masks()))
            if step + 1 < env.episode_length:
                observation, *_ = env.step(np.int64(action))
    observations, actions, masks = zip(*rows, strict=True)
    return torch.from_numpy(np.stack(observations)), torch.tensor(actions), torch.from_numpy(np.stack(masks))
