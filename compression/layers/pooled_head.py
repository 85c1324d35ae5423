"""A classifier on global averages in the place of fully connected layers."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...graph.opspec import OpSpec, Shape
from .layer import CompressedLayer, register_layer

__all__ = ["PooledHead"]


@register_layer
class PooledHead(CompressedLayer):
    """Average each channel over all positions, then one linear layer (Lin et al. 2013, Network in Network, sec. 3.2).

    Args:
        channels: Channels of the feature map.
        positions: Height times width of the feature map.
        out_features: Outputs of the head.
    """

    def __init__(self, channels: int, positions: int, out_features: int) -> None:
        super().__init__()
        self.positions = positions
        self.linear = nn.Linear(channels, out_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Flattened feature maps (N, channels * positions) to (N, out_features)."""
        pooled = inputs.view(-1, self.linear.in_features, self.positions).mean(2)
        outputs: Tensor = self.linear(pooled)
        return outputs

    @override
    def config(self) -> dict[str, Any]:
        return {
            "channels": self.linear.in_features,
            "positions": self.positions,
            "out_features": self.linear.out_features,
        }

    @override
    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        channels = self.linear.in_features
        # The average runs over a flat axis: as an image it is one row of pixels.
        pool = OpSpec("global_avg_pool2d", (channels, 1, self.positions), (channels, 1, 1))
        return pool, OpSpec("linear", (channels,), (self.linear.out_features,), bias=True)

    @torch.no_grad()
    @override
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        self.linear.weight.mul_(scale.view(-1, 1))
        self.linear.bias.mul_(scale).add_(shift)
