"""Layers with 8-bit weights and inputs, simulated in float and executable in integers.

Uniform affine quantisation as in Jacob et al. 2018 (arXiv 1712.05877): int8 weights with a symmetric scale per output
channel, uint8 activations with a scale and a zero point per tensor.
"""

from abc import abstractmethod
from typing import Any

# Registers torch.ops.quantized_decomposed, whose operators export to ONNX as DequantizeLinear.
import torch.ao.quantization.fx._decomposed
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ...graph.opspec import OpSpec, Shape
from ...kernels.integer import Grid, IntegerConv2d, IntegerLinear
from .geometry import ConvGeometry
from .layer import CompressedLayer, register_layer

__all__ = ["QuantizedConv2d", "QuantizedLinear", "activation_grid"]

WEIGHT_LIMIT = 127
ACTIVATION_LEVELS = 255


def activation_grid(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of the 8-bit grid that covers [low, high] and contains 0 exactly.

    Args:
        low: Smallest value to represent; raised values above 0 become 0.
        high: Largest value to represent; values below 0 become 0.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-8) / ACTIVATION_LEVELS
    return scale, round(-low / scale)


class _QuantizedLayer(CompressedLayer):
    """Weights as int8 codes with one scale per output channel; inputs on one uint8 grid.

    `codes` and `scale` are what is stored. The optional output grid lets engines keep integers between layers.
    """

    codes: Tensor
    input_scale: Tensor
    input_zero_point: Tensor
    output_scale: Tensor
    output_zero_point: Tensor

    def __init__(self, weight_shape: Shape, has_output_grid: bool) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(weight_shape, dtype=torch.int8))
        self.scale = nn.Parameter(torch.ones(weight_shape[0]))
        self.bias = nn.Parameter(torch.zeros(weight_shape[0]))
        self._register_grid("input")
        self.has_output_grid = has_output_grid
        if has_output_grid:
            self._register_grid("output")

    @property
    @override
    def n_parameters(self) -> int:
        return self.codes.numel() + self.bias.numel()

    def _register_grid(self, which: str) -> None:
        self.register_buffer(f"{which}_scale", torch.ones(()))
        self.register_buffer(f"{which}_zero_point", torch.zeros((), dtype=torch.int32))

    def set_input_grid(self, low: float, high: float) -> None:
        """Fit the input grid to values in [low, high]."""
        self._set_grid("input", low, high)

    def set_output_grid(self, low: float, high: float) -> None:
        """Round outputs to the 8-bit grid over [low, high] from now on."""
        if not self.has_output_grid:
            self._register_grid("output")
            self.has_output_grid = True
        self._set_grid("output", low, high)

    def _set_grid(self, which: str, low: float, high: float) -> None:
        scale, zero_point = activation_grid(low, high)
        getattr(self, f"{which}_scale").fill_(scale)
        getattr(self, f"{which}_zero_point").fill_(zero_point)

    @property
    def input_grid(self) -> Grid:
        """Scale and zero point of the inputs' grid."""
        return float(self.input_scale), int(self.input_zero_point)

    @property
    def output_grid(self) -> Grid | None:
        """Scale and zero point of the outputs' grid; None where there is none."""
        return (float(self.output_scale), int(self.output_zero_point)) if self.has_output_grid else None

    @torch.no_grad()
    def quantize_weight(self, weight: Tensor, bias: Tensor | None) -> None:
        """Round `weight` to int8 with one symmetric scale per output channel, its largest magnitude / 127."""
        rows = weight.detach().flatten(1)
        scale = rows.abs().amax(1).clamp_min(1e-12) / WEIGHT_LIMIT
        codes = (rows / scale[:, None]).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        self.codes.copy_(codes.view_as(weight))
        self.scale.copy_(scale)
        if bias is not None:
            self.bias.copy_(bias)

    @property
    def weight(self) -> Tensor:
        """The weights as floats, of the shape of `codes`."""
        if torch.compiler.is_exporting():
            zeros = torch.zeros_like(self.scale, dtype=torch.int64)
            arguments = (self.codes, self.scale.detach(), zeros, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT, torch.int8)
            dequantized: Tensor = torch.ops.quantized_decomposed.dequantize_per_channel(*arguments)
            return dequantized
        return self.codes * self.scale.view(-1, *[1] * (self.codes.ndim - 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Float arithmetic on values of the grids: what integer arithmetic gives, up to rounding of the sums."""
        inputs = torch.fake_quantize_per_tensor_affine(
            inputs, self.input_scale, self.input_zero_point, 0, ACTIVATION_LEVELS
        )
        outputs = self._compute(inputs)
        if not self.has_output_grid:
            return outputs
        return torch.fake_quantize_per_tensor_affine(
            outputs, self.output_scale, self.output_zero_point, 0, ACTIVATION_LEVELS
        )

    @abstractmethod
    def _compute(self, inputs: Tensor) -> Tensor:
        """The layer's arithmetic in float."""

    @torch.no_grad()
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        self.codes.mul_(scale.sign().to(torch.int8).view(-1, *[1] * (self.codes.ndim - 1)))
        self.scale.mul_(scale.abs())
        self.bias.mul_(scale).add_(shift)


@register_layer
class QuantizedConv2d(_QuantizedLayer):
    """A convolution with 8-bit weights and inputs.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        geometry: How the kernel moves, or the JSON form of it.
        has_output_grid: Whether outputs are rounded to an 8-bit grid too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        geometry: ConvGeometry | dict[str, Any],
        has_output_grid: bool = False,
    ) -> None:
        if isinstance(geometry, dict):
            geometry = ConvGeometry.from_dict(geometry)
        super().__init__((out_channels, in_channels // geometry.groups, *geometry.kernel), has_output_grid)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.geometry = geometry

    @classmethod
    def from_layer(cls, layer: nn.Conv2d) -> "QuantizedConv2d":
        """Quantise the weights of `layer`; the input grid is still to be set."""
        quantized = cls(layer.in_channels, layer.out_channels, ConvGeometry.of(layer))
        quantized.quantize_weight(layer.weight, layer.bias)
        return quantized

    @override
    def config(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "geometry": self.geometry.to_dict(),
            "has_output_grid": self.has_output_grid,
        }

    @override
    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        return (self.geometry.spec(input_shape, self.out_channels, bias=True).replace(bits=8),)

    def _compute(self, inputs: Tensor) -> Tensor:
        return self.geometry.convolve(inputs, self.weight, self.bias)

    def realised(self) -> nn.Module:
        """The same layer executed by PyTorch's integer kernels."""
        shape = self.geometry
        return IntegerConv2d(
            self.codes,
            self.scale,
            self.bias,
            stride=shape.stride,
            padding=shape.padding,
            dilation=shape.dilation,
            groups=shape.groups,
            input_grid=self.input_grid,
            output_grid=self.output_grid,
        )


@register_layer
class QuantizedLinear(_QuantizedLayer):
    """A linear layer with 8-bit weights and inputs.

    Args:
        in_features: Features of the input.
        out_features: Features of the output.
        has_output_grid: Whether outputs are rounded to an 8-bit grid too.
    """

    def __init__(self, in_features: int, out_features: int, has_output_grid: bool = False) -> None:
        super().__init__((out_features, in_features), has_output_grid)
        self.in_features = in_features
        self.out_features = out_features

    @classmethod
    def from_layer(cls, layer: nn.Linear) -> "QuantizedLinear":
        """Quantise the weights of `layer`; the input grid is still to be set."""
        quantized = cls(layer.in_features, layer.out_features)
        quantized.quantize_weight(layer.weight, layer.bias)
        return quantized

    @override
    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "has_output_grid": self.has_output_grid,
        }

    @override
    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        return (OpSpec("linear", input_shape, (*input_shape[:-1], self.out_features), bias=True, bits=8),)

    def _compute(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weight, self.bias)

    def realised(self) -> nn.Module:
        """The same layer executed by PyTorch's integer kernels."""
        return IntegerLinear(
            self.codes, self.scale, self.bias, input_grid=self.input_grid, output_grid=self.output_grid
        )
