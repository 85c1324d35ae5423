"""Pruning step by step while training goes on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from .block_sites import BlockWeight
from .pruning import ApproachingPruning

__all__ = ["Gradual", "GradualMasks", "rate_after"]


def rate_after(share: float, rate: float) -> float:
    """How many times fewer weights are left when a share of the schedule is done.

    The sparsity rises as final * (1 - (1 - share)^3), fast at first (Zhu and Gupta 2018, arXiv 1710.01878, eq. 1).

    Args:
        share: 0 to 1.
        rate: In the end, above 1.
    """
    return 1 / (1 - (1 - 1 / rate) * (1 - (1 - share) ** 3))


class GradualMasks:
    """Keeps pruned weights at zero and prunes more of them every so often.

    Args:
        weights: What to make sparse.
        steps: Gradient steps until the final rates are reached.
        update_steps: Gradient steps between two prunings.
    """

    def __init__(self, weights: Sequence[BlockWeight], steps: int, update_steps: int) -> None:
        self._weights = weights
        self._total = steps
        self._update_steps = update_steps
        self._steps = 0
        self.masks = [torch.ones_like(weight.parameter, dtype=torch.bool) for weight in weights]

    def penalty(self) -> Tensor:
        """Nothing."""
        return torch.zeros(())

    @torch.no_grad()
    def after_step(self) -> None:
        """Prune, more every so often."""
        self._steps += 1
        if self._steps % self._update_steps == 0 or self._steps == self._total:
            share = min(1.0, self._steps / self._total)
            self.masks = [w.mask(w.parameter, rate_after(share, w.rate)) for w in self._weights]
        for weight, mask in zip(self._weights, self.masks, strict=True):
            weight.parameter.mul_(mask)


@dataclass(frozen=True, kw_only=True)
class Gradual(ApproachingPruning):
    """Prune a little every few steps, at first fast and then slowly (Zhu and Gupta 2018, arXiv 1710.01878)."""

    @property
    @override
    def name(self) -> str:
        return "gradual"

    @override
    def regulariser(self, weights: Sequence[BlockWeight], steps: int) -> GradualMasks:
        return GradualMasks(weights, steps, self.update_steps)
