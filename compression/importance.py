"""In which order a layer's output channels can go."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .fitting import output_energy, reduced_weight

__all__ = ["Consumer", "channel_order"]

#: The channels are removed in about this many rounds; the losses are computed anew before each.
_ROUNDS = 16


@dataclass
class Consumer:
    """A layer that reads the channels.

    Attributes:
        weight: Its weights, float64, shape (outputs, K).
        covariance: Of its inputs, float64, shape (K, K), positive definite.
        inputs: For each channel the indices of its inputs, shape (channels, inputs per channel).
    """

    weight: Tensor
    covariance: Tensor
    inputs: Tensor

    def loss(self, kept: Tensor) -> float:
        """Share of the output energy lost when only the channels `kept` are read and the weights refitted."""
        columns = self.inputs[kept].flatten()
        reduced = reduced_weight(self.weight, self.covariance, columns)
        left = output_energy(reduced, self.covariance[columns][:, columns])
        return max(0.0, 1.0 - left / (output_energy(self.weight, self.covariance) or 1.0))


def channel_order(consumers: list[Consumer]) -> Tensor:
    """The channels in order of importance to the consumers' outputs, the most important first.

    In rounds, the channels are removed whose loss is least when every consumer makes up for them by its other inputs:
    tr(W_c (P_cc)^-1 W_c^T) with P the inverse covariance (Hassibi and Stork 1993, for groups of weights).

    Args:
        consumers: At least one; all read the same channels.

    Returns:
        int64, shape (channels,).
    """
    alive = torch.arange(consumers[0].inputs.shape[0])
    states = [_Elimination(consumer) for consumer in consumers]
    step = math.ceil(len(alive) / _ROUNDS)
    removed: list[Tensor] = []
    while len(alive) > step:
        losses = sum((state.losses() for state in states), torch.zeros(len(alive), dtype=torch.float64))
        order = losses.argsort()
        gone, kept = order[:step], order[step:].sort().values
        for state in states:
            state.remove(gone, kept)
        removed.append(alive[gone])
        alive = alive[kept]
    losses = sum((state.losses() for state in states), torch.zeros(len(alive), dtype=torch.float64))
    removed.append(alive[losses.argsort()])
    return torch.cat(removed).flip(0)


class _Elimination:
    """One consumer's weights and inverse covariance while channels disappear."""

    def __init__(self, consumer: Consumer) -> None:
        self._weight = consumer.weight
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(consumer.covariance))
        self._inputs = consumer.inputs
        self._energy = output_energy(consumer.weight, consumer.covariance) or 1.0

    def losses(self) -> Tensor:
        """Loss of each remaining channel as a share of the output energy."""
        blocks = self._inverse[self._inputs[:, :, None], self._inputs[:, None, :]]
        weights = self._weight[:, self._inputs].permute(1, 2, 0)
        carried: Tensor = torch.linalg.solve(blocks, weights)
        return (weights * carried).sum((1, 2)) / self._energy

    def remove(self, gone: Tensor, kept: Tensor) -> None:
        """Remove channels and let the others make up for them.

        Args:
            gone: Positions among the remaining channels.
            kept: All other positions, in order.
        """
        out, stay = self._inputs[gone].flatten(), self._inputs[kept].flatten()
        block = torch.linalg.cholesky(self._inverse[out][:, out])
        carried = torch.cholesky_solve(self._inverse[out][:, stay], block)
        self._weight = self._weight[:, stay] - self._weight[:, out] @ carried
        self._inverse = self._inverse[stay][:, stay] - self._inverse[stay][:, out] @ carried
        self._inputs = torch.arange(len(stay)).view(len(kept), -1)
