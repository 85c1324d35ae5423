"""Pruning by a group penalty whose weights follow the groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from ..errors import EspalierError
from .block_sites import BlockWeight
from .pruning import ApproachingPruning

__all__ = ["Reweighted", "ReweightedPenalty"]


class ReweightedPenalty:
    """Each row r and column c of each block counts: strength * (sum alpha_r |w_r|^2 + sum beta_c |w_c|^2).

    alpha = 1 / (|w_r|^2 + epsilon) and beta likewise are taken anew every so often: what is small gets smaller, what is
    large is left alone.

    Args:
        weights: What to make sparse.
        strength: Of the penalty, above 0.
        epsilon: Mean square of a weight, of the tensor's own, at which a group counts as small; above 0.
        update_steps: Gradient steps between two looks at the groups.
    """

    def __init__(self, weights: Sequence[BlockWeight], strength: float, epsilon: float, update_steps: int) -> None:
        self._weights = weights
        self._strength = strength
        self._epsilon = epsilon
        self._update_steps = update_steps
        self._steps = 0
        self.update()

    def penalty(self) -> Tensor:
        """The sum over all blocks of all weights."""
        terms = []
        for weight, (alpha, beta) in zip(self._weights, self.factors, strict=True):
            rows, columns = group_squares(weight)
            terms.append((alpha * rows).sum() + (beta * columns).sum())
        return torch.stack(terms).sum() * self._strength

    def after_step(self) -> None:
        """Count, and update every so often."""
        self._steps += 1
        if self._steps % self._update_steps == 0:
            self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Take alpha and beta from the weights as they are."""
        self.factors = [self._reciprocals(weight) for weight in self._weights]

    def _reciprocals(self, weight: BlockWeight) -> tuple[Tensor, Tensor]:
        grid, _ = weight.technique.ordered_grid(weight.parameter.shape)
        mean_square = float(weight.parameter.detach().square().mean())
        rows, columns = group_squares(weight)
        sizes = self._epsilon * mean_square * grid.block_columns, self._epsilon * mean_square * grid.block_rows
        return 1 / (rows + sizes[0]), 1 / (columns + sizes[1])


def group_squares(weight: BlockWeight) -> tuple[Tensor, Tensor]:
    """|w_r|^2 of each block's rows, shape (blocks, block rows), and |w_c|^2 of its columns, (blocks, block columns)."""
    grid, order = weight.technique.ordered_grid(weight.parameter.shape)
    squares = grid.blocks(weight.parameter.flatten(1)[:, order]).square()
    return squares.sum(2), squares.sum(1)


@dataclass(frozen=True, kw_only=True)
class Reweighted(ApproachingPruning):
    """Train under a penalty that drives rows and columns of blocks to zero, then prune to the plan's rate.

    Reweighted group regularisation, after Candes et al. 2008 (arXiv 0711.1612); Niu, Li et al. 2021, GRIM (arXiv
    2108.11033).

    Attributes:
        strength: Of the penalty, above 0.
        epsilon: Below this share of the tensor's mean square a row or column of a block counts as small; above 0.
    """

    strength: float = 1e-5
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.strength > 0 and self.epsilon > 0):
            got = f"{self.strength} and {self.epsilon}"
            raise EspalierError(f"pruning.strength and pruning.epsilon must be above 0, got {got}")

    @property
    @override
    def name(self) -> str:
        return "reweighted"

    @override
    def regulariser(self, weights: Sequence[BlockWeight], steps: int) -> ReweightedPenalty:
        return ReweightedPenalty(weights, self.strength, self.epsilon, self.update_steps)
