"""Layers over images in the place of layers over signals."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...graph.opspec import OpSpec, Shape
from .absorption import absorb, absorber, parameter_count
from .geometry import ConvGeometry
from .layer import CompressedLayer, register_layer
from .ordinary import layer_specs
from .structure import Description, build_module, describe_module

__all__ = ["OverSignals", "as_image_layer", "as_image_shape"]


@register_layer
class OverSignals(CompressedLayer):
    """Sees a signal (N, C, T) as an image of one row, so that whatever takes a convolution's place takes that one's.

    Args:
        inner: The layer over images, described.
    """

    def __init__(self, inner: Description) -> None:
        super().__init__()
        self.inner = build_module(inner)

    @classmethod
    def of(cls, layer: nn.Module) -> "OverSignals":
        """A given layer over images, over signals."""
        wrapped = cls(describe_module(layer))
        wrapped.inner = layer
        return wrapped

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (N, C, T) to (N, C', T')."""
        outputs: Tensor = self.inner(inputs.unsqueeze(2))
        return outputs.squeeze(2)

    @property
    @override
    def n_parameters(self) -> int:
        return parameter_count(self.inner)

    @override
    def config(self) -> dict[str, Any]:
        return {"inner": describe_module(self.inner)}

    @override
    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        return layer_specs(self.inner, as_image_shape(input_shape))

    @torch.no_grad()
    @override
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        assert absorber(self.inner) is not None
        absorb(self.inner, scale, shift)


def as_image_shape(shape: Shape) -> Shape:
    """A signal's shape (C, T) as that of an image of one row; an image's as it is."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


@torch.no_grad()
def as_image_layer(layer: nn.Conv1d) -> nn.Conv2d:
    """The same convolution over images of one row."""
    image_layer = ConvGeometry.of(layer).layer(layer.in_channels, layer.out_channels, layer.bias is not None)
    image_layer.weight.copy_(layer.weight.unsqueeze(2))
    if layer.bias is not None:
        assert image_layer.bias is not None
        image_layer.bias.copy_(layer.bias)
    return image_layer.requires_grad_(False)
