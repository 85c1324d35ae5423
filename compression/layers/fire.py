"""The Fire module: a narrow 1x1 convolution, then 1x1 and larger kernels side by side."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...graph.opspec import OpSpec, Shape
from .geometry import ConvGeometry
from .layer import CompressedLayer, register_layer

__all__ = ["FireConv2d"]


@register_layer
class FireConv2d(CompressedLayer):
    """Squeeze, expand, concatenate (Iandola et al. 2016, SqueezeNet, sec. 3.2), in the place of one convolution.

    There is no activation after the squeeze: a linear bottleneck can be fitted in closed form, and the activation
    after the replaced convolution stays where it was.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        squeezed: Channels between squeeze and expand.
        pointwise: How many of the outputs come from the 1x1 kernels.
        geometry: Of the replaced convolution, or the JSON form of it; 1 group.
    """

    order: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        squeezed: int,
        pointwise: int,
        geometry: ConvGeometry | dict[str, Any],
    ) -> None:
        super().__init__()
        self.geometry = ConvGeometry.from_dict(geometry) if isinstance(geometry, dict) else geometry
        self.out_channels = out_channels
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1, bias=False)
        self.expand_pointwise = nn.Conv2d(squeezed, pointwise, 1, self.geometry.stride)
        self.expand = self.geometry.layer(squeezed, out_channels - pointwise, bias=True)
        self.register_buffer("order", torch.arange(out_channels, dtype=torch.int32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (N, in_channels, H, W) to the shape that the replaced convolution gives."""
        squeezed = self.squeeze(inputs)
        outputs = torch.cat([self.expand_pointwise(squeezed), self.expand(squeezed)], 1)
        return outputs.index_select(1, self.order)

    @override
    def config(self) -> dict[str, Any]:
        return {
            "in_channels": self.squeeze.in_channels,
            "out_channels": self.out_channels,
            "squeezed": self.squeeze.out_channels,
            "pointwise": self.expand_pointwise.out_channels,
            "geometry": self.geometry.to_dict(),
        }

    @override
    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        narrow = ConvGeometry((1, 1)).spec(input_shape, self.squeeze.out_channels, bias=False)
        wide = self.geometry.spec(narrow.output_shape, self.expand.out_channels, bias=True)
        stride_only = ConvGeometry((1, 1), self.geometry.stride)
        pointwise = stride_only.spec(narrow.output_shape, self.expand_pointwise.out_channels, bias=True)
        output = (self.out_channels, *wide.output_shape[1:])
        joined = OpSpec("concat", pointwise.output_shape, output, n_inputs=2)
        return narrow, pointwise, wide, joined, OpSpec("gather", output, output)

    @torch.no_grad()
    @override
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        position = torch.empty_like(self.order, dtype=torch.long)
        position[self.order.long()] = torch.arange(self.out_channels)
        n_pointwise = self.expand_pointwise.out_channels
        for layer, rows in ((self.expand_pointwise, position[:n_pointwise]), (self.expand, position[n_pointwise:])):
            assert layer.bias is not None
            layer.weight.mul_(scale[rows].view(-1, 1, 1, 1))
            layer.bias.mul_(scale[rows]).add_(shift[rows])
