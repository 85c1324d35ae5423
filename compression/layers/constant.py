"""What is left of a skipped block: the mean of what it added."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...graph.opspec import OpSpec, Shape
from .layer import CompressedLayer, register_layer

__all__ = ["Constant"]


@register_layer
class Constant(CompressedLayer):
    """Gives the same for every input: one value a channel.

    Args:
        channels: Of the output.
        axes: Axes of the output beside batch and channels; each has length 1.
    """

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.axes = axes
        self.value = nn.Parameter(torch.zeros(channels))

    def forward(self, _: Tensor) -> Tensor:
        """Anything to shape (1, channels, 1, ...), which an addition spreads over its other operand."""
        return self.value.view(1, -1, *[1] * self.axes)

    @override
    def config(self) -> dict[str, Any]:
        return {"channels": self.value.numel(), "axes": self.axes}

    @override
    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        return ()

    @torch.no_grad()
    @override
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        self.value.mul_(scale).add_(shift)
