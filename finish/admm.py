"""Pruning by the alternating direction method of multipliers (ADMM)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from ..errors import EspalierError
from .block_sites import BlockWeight
from .pruning import ApproachingPruning

__all__ = ["Admm", "AdmmPenalty"]


class AdmmPenalty:
    """Holds each weight W near a sparse Z by (rho / 2) |W - Z + U|^2 (Boyd et al. 2011, eqs. 3.5 to 3.7).

    Args:
        weights: What to make sparse.
        rho: How much a distance counts, above 0.
        update_steps: Gradient steps between two updates of Z and U.
    """

    def __init__(self, weights: Sequence[BlockWeight], rho: float, update_steps: int) -> None:
        self._weights = weights
        self._rho = rho
        self._update_steps = update_steps
        self._steps = 0
        self.sparse = [weight.projected(weight.parameter) for weight in weights]
        self.dual = [torch.zeros_like(weight.parameter) for weight in weights]

    def penalty(self) -> Tensor:
        """Sum over the weights of (rho / 2) |W - Z + U|^2."""
        triples = zip(self._weights, self.sparse, self.dual, strict=True)
        return torch.stack([(w.parameter - z + u).square().sum() for w, z, u in triples]).sum() * (self._rho / 2)

    def after_step(self) -> None:
        """Count, and update every so often."""
        self._steps += 1
        if self._steps % self._update_steps == 0:
            self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Z becomes the sparse tensor nearest to W + U; U grows by W - Z."""
        for i, weight in enumerate(self._weights):
            self.sparse[i] = weight.projected(weight.parameter + self.dual[i])
            self.dual[i] += weight.parameter - self.sparse[i]


@dataclass(frozen=True, kw_only=True)
class Admm(ApproachingPruning):
    """Train under a penalty on the distance from a sparse copy, which follows the weights, and prune to it.

    Zhang et al. 2018 (arXiv 1804.03294); with block column-row sparsity Niu, Li et al. 2021, GRIM (arXiv 2108.11033).

    Attributes:
        rho: How much a distance counts, above 0.
    """

    rho: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rho > 0:
            raise EspalierError(f"pruning.rho must be above 0, got {self.rho}")

    @property
    @override
    def name(self) -> str:
        return "admm"

    @override
    def regulariser(self, weights: Sequence[BlockWeight], steps: int) -> AdmmPenalty:
        return AdmmPenalty(weights, self.rho, self.update_steps)
