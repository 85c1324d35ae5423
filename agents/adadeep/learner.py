"""A deep Q-network for the technique above a deep deterministic policy gradient for its strength."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor
from torch.nn import functional

from ...envs.observation import Vector
from .recipe import LearningRecipe

__all__ = ["HierarchicalLearner", "Step", "masked_best", "td_target"]

_MAX_GRADIENT_NORM = 10.0

#: Small networks spend their time in Python: one call for all tensors of an optimiser.
_FAST = {"foreach": True}


@dataclass(frozen=True)
class Step:
    """One decision of an episode.

    Attributes:
        observation: What the agent saw, the mask of techniques first.
        technique: Index of the technique.
        strength: Of the technique, in [-1, 1] as the actor gives it.
    """

    observation: Vector
    technique: int
    strength: float


def masked_best(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The highest value among the open actions of each row, shape (rows, 1), and the index of its action, likewise.

    Args:
        values: Shape (rows, actions).
        mask: Which are open, same shape.
    """
    best = values.masked_fill(~mask, -torch.inf).max(dim=1, keepdim=True)
    return best.values, best.indices


def td_target(rewards: Tensor, dones: Tensor, discounts: Tensor | float, next_values: Tensor) -> Tensor:
    """Rewards plus the discounted value of the next state, which counts only where the episode goes on.

    Args:
        rewards: Shape (rows, 1).
        dones: 1 where the episode ended with the step, 0 elsewhere.
        discounts: Of the next values.
        next_values: Of the state after the step.
    """
    return rewards + (1 - dones) * discounts * next_values


class HierarchicalLearner:
    """Two levels that learn from the same transitions.

    The upper level is a deep Q-network (Mnih et al. 2015) whose actions are techniques; closed ones count neither when
    it acts nor in its target. The lower level is DDPG (Lillicrap et al. 2016), that is TD3's networks with a single
    critic; it sees the technique beside the observation. What follows a step is, for both, the upper level's best open
    technique, for the lower one with the strength that its target actor gives it.

    Args:
        n_features: Length of an observation, which begins with the mask of techniques.
        n_techniques: Number of techniques.
        recipe: How to learn.
    """

    def __init__(self, n_features: int, n_techniques: int, recipe: LearningRecipe) -> None:
        self._n_techniques = n_techniques
        self._recipe = recipe
        arch = list(recipe.net_arch)
        observed = spaces.Box(-np.inf, np.inf, (n_features,), np.float32)
        conditioned = spaces.Box(-np.inf, np.inf, (n_features + n_techniques,), np.float32)
        strength = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.upper = DQNPolicy(
            observed, spaces.Discrete(n_techniques), lambda _: recipe.technique_rate, arch, optimizer_kwargs=_FAST
        )
        self.lower = TD3Policy(
            conditioned, strength, lambda _: recipe.strength_rate, arch, optimizer_kwargs=_FAST, n_critics=1
        )
        both = spaces.Box(np.array([0, -1], np.float32), np.array([n_techniques - 1, 1], np.float32))
        self.buffer = NStepReplayBuffer(
            recipe.buffer_size, observed, both, "cpu", n_steps=recipe.n_steps, gamma=recipe.gamma
        )

    def technique(self, observation: Vector) -> int:
        """The open technique of the highest value."""
        with torch.no_grad():
            batch = torch.from_numpy(observation)[None]
            return int(masked_best(self.upper.q_net(batch), self._mask(batch))[1])

    def strength(self, observation: Vector, technique: int) -> float:
        """The actor's strength of a technique, in [-1, 1]."""
        with torch.no_grad():
            batch = self._conditioned(torch.from_numpy(observation)[None], torch.tensor([[technique]]))
            return float(self.lower.actor(batch))

    def remember(self, steps: Sequence[Step], reward: float) -> None:
        """Store an episode; its reward belongs to its last step alone, after which nothing follows.

        Args:
            steps: Its decisions in order.
            reward: Of the whole.
        """
        for number, step in enumerate(steps, start=1):
            is_last = number == len(steps)
            after = step if is_last else steps[number]
            action = np.array([step.technique, step.strength], np.float32)
            earned, done = np.array([reward if is_last else 0.0]), np.array([is_last])
            self.buffer.add(step.observation, after.observation, action, earned, done, [{}])

    def train(self) -> dict[str, float]:
        """Take the recipe's gradient steps on both levels.

        Returns:
            Mean losses by name; empty where the recipe takes no step.
        """
        losses: list[dict[str, float]] = []
        for _ in range(self._recipe.gradient_steps):
            batch = self.buffer.sample(self._recipe.batch_size)
            upper, lower = self.targets(batch)
            losses.append(self._train_upper(batch, upper) | self._train_lower(batch, lower))
            self._update_targets()
        return {name: float(np.mean([each[name] for each in losses])) for name in (losses[0] if losses else ())}

    def targets(self, batch: ReplayBufferSamples) -> tuple[Tensor, Tensor]:
        """TD targets of the upper and of the lower level, shape (rows, 1) each."""
        assert batch.discounts is not None
        after = batch.next_observations
        with torch.no_grad():
            best, techniques = masked_best(self.upper.q_net_target(after), self._mask(after))
            conditioned = self._conditioned(after, techniques)
            (lower,) = self.lower.critic_target(conditioned, self.lower.actor_target(conditioned))
        return (
            td_target(batch.rewards, batch.dones, batch.discounts, best),
            td_target(batch.rewards, batch.dones, batch.discounts, lower),
        )

    def _train_upper(self, batch: ReplayBufferSamples, target: Tensor) -> dict[str, float]:
        techniques = batch.actions[:, :1].long()
        loss = functional.smooth_l1_loss(self.upper.q_net(batch.observations).gather(1, techniques), target)
        _descend(self.upper.optimizer, loss)
        return {"technique_loss": loss.item()}

    def _train_lower(self, batch: ReplayBufferSamples, target: Tensor) -> dict[str, float]:
        conditioned = self._conditioned(batch.observations, batch.actions[:, :1].long())
        (value,) = self.lower.critic(conditioned, batch.actions[:, 1:])
        critic_loss = functional.mse_loss(value, target)
        _descend(self.lower.critic.optimizer, critic_loss)
        strengths = self.lower.actor(conditioned)
        strengths.register_hook(_inverting(strengths.detach()))
        actor_loss = -self.lower.critic.q1_forward(conditioned, strengths).mean()
        _descend(self.lower.actor.optimizer, actor_loss)
        return {"strength_critic_loss": critic_loss.item(), "strength_actor_loss": actor_loss.item()}

    def _update_targets(self) -> None:
        for source, target in (
            (self.upper.q_net, self.upper.q_net_target),
            (self.lower.critic, self.lower.critic_target),
            (self.lower.actor, self.lower.actor_target),
        ):
            polyak_update(source.parameters(), target.parameters(), self._recipe.tau)

    def _mask(self, observations: Tensor) -> Tensor:
        return observations[:, : self._n_techniques] > 0

    def _conditioned(self, observations: Tensor, techniques: Tensor) -> Tensor:
        chosen = functional.one_hot(techniques[:, 0], self._n_techniques)
        return torch.cat([observations, chosen.to(observations.dtype)], dim=1)

    def state(self) -> dict[str, Tensor]:
        """Weights of all networks by name."""
        levels = {"technique": self.upper, "strength": self.lower}
        return {f"{level}.{n}": t.detach().clone() for level, p in levels.items() for n, t in p.state_dict().items()}


def _inverting(strengths: Tensor) -> Callable[[Tensor], Tensor]:
    """Gradients shrink the closer a strength is to the bound that they push it to (Hausknecht & Stone 2016, eq. 11).

    Without it an early critic, still nearly linear, drives the actor to a bound where its tanh has no gradient left.
    """

    def invert(gradients: Tensor) -> Tensor:
        return gradients * torch.where(gradients < 0, 1 - strengths, 1 + strengths) / 2

    return invert


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)
    optimizer.step()
