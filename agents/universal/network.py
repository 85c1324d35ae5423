"""A policy that scores each choice by what it saves and breaks, whatever network it belongs to."""

from typing import Any

import torch
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from typing_extensions import override

from ...envs.observation import COST_NAMES, LAYOUT, SLOTS

__all__ = ["ChoicePolicy"]

_COSTS = len(COST_NAMES)

#: Of the observation's numbers per choice: savings, error, mask; to these come the weighted ones.
_PER_CHOICE = (LAYOUT["choices"].stop - LAYOUT["choices"].start) // SLOTS
_SCORED = _PER_CHOICE + _COSTS + 1
_CONTEXT = sum(LAYOUT[name].stop - LAYOUT[name].start for name in ("site", "running", "demand", "device")) + _COSTS

#: In the demand: weight of accuracy, weights of the costs, budgets of the costs.
_ACCURACY, _WEIGHTS, _BUDGETS = 0, slice(1, 1 + _COSTS), slice(6, 6 + _COSTS)


class _ChoiceScorer(nn.Module):
    """The same small network for every choice, beside one that reads site, walk, demand and device.

    A new network may have other choices in another order: only what a choice does to costs and error is read, so its
    place does not matter (Zaheer et al. 2017, deep sets).
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.latent_dim_pi = SLOTS
        self.latent_dim_vf = hidden
        self.context = nn.Sequential(nn.Linear(_CONTEXT, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.choice = nn.Linear(_SCORED, hidden)
        self.deeper = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.score = nn.Linear(hidden, 1)
        self.value = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.ReLU())

    def _read(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Context (n, hidden), choices in context (n, used slots, hidden), which are open (n, used slots)."""
        site, running, demand, device = (observations[:, LAYOUT[n]] for n in ("site", "running", "demand", "device"))
        choices = observations[:, LAYOUT["choices"]].reshape(-1, SLOTS, _PER_CHOICE)
        is_open = choices[:, :, -1] > 0
        used = int(is_open.any(0).nonzero().max()) + 1
        choices, is_open = choices[:, :used], is_open[:, :used]
        slack = demand[:, _BUDGETS] - (1 - running[:, :_COSTS])
        context = self.context(torch.cat([site, running, demand, device, slack], 1))
        gains = choices[:, :, :_COSTS] * demand[:, None, _WEIGHTS]
        losses = choices[:, :, [_COSTS]] * demand[:, None, [_ACCURACY]]
        scored = self.deeper(self.choice(torch.cat([choices, gains, losses], 2)) + context[:, None])
        return context, scored, is_open

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the slots and features of the value."""
        context, scored, is_open = self._read(observations)
        return self._scores(scored), self._valued(context, scored, is_open)

    def forward_actor(self, observations: Tensor) -> Tensor:
        """Scores, shape (n, SLOTS); 0 where no walk has an open choice."""
        return self._scores(self._read(observations)[1])

    def forward_critic(self, observations: Tensor) -> Tensor:
        """Features of the value, shape (n, hidden)."""
        return self._valued(*self._read(observations))

    def _scores(self, scored: Tensor) -> Tensor:
        return nn.functional.pad(self.score(scored)[:, :, 0], (0, SLOTS - scored.shape[1]))

    def _valued(self, context: Tensor, scored: Tensor, is_open: Tensor) -> Tensor:
        seen = scored * is_open[:, :, None]
        mean = seen.sum(1) / is_open.sum(1, keepdim=True).clamp(min=1)
        valued: Tensor = self.value(torch.cat([context, mean, seen.amax(1)], 1))
        return valued


class ChoicePolicy(MaskableActorCriticPolicy):
    """A policy for MaskablePPO whose logits are the scores of the choices.

    Args:
        args: As MaskableActorCriticPolicy.
        hidden: Width of all layers.
        kwargs: As MaskableActorCriticPolicy.
    """

    def __init__(self, *args: Any, hidden: int = 64, **kwargs: Any) -> None:
        self._hidden = hidden
        super().__init__(*args, **kwargs)

    @override
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _ChoiceScorer(self._hidden)  # type: ignore[assignment]

    @override
    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()
        with torch.no_grad():
            self.mlp_extractor.score.weight *= 0.1  # type: ignore[operator,union-attr]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    @override
    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> MaskableDistribution:
        return self.action_dist.proba_distribution(action_logits=latent_pi)
