"""Convolutions and linear layers on oneDNN's integer kernels: uint8 inputs, int8 weights, one scale per output."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

__all__ = ["Grid", "IntegerConv2d", "IntegerLinear"]

#: Scale and zero point of an 8-bit grid.
Grid = tuple[float, int]

_NO_POST_OP: tuple[Any, ...] = ("none", [], "")


class _IntegerLayer(nn.Module):
    """Rounds floats to uint8, computes in integers, returns floats.

    Args:
        weight_scale: One per output, shape (outputs,).
        bias: Float, shape (outputs,).
        input_grid: Grid of the inputs.
        output_grid: Grid that outputs are rounded to; None to return them as they are.
    """

    def __init__(self, weight_scale: Tensor, bias: Tensor, input_grid: Grid, output_grid: Grid | None) -> None:
        super().__init__()
        self._weight_scale = weight_scale.detach().clone()
        self._zero_points = torch.zeros_like(weight_scale, dtype=torch.int32)
        self._bias = bias.detach().clone()
        self._input_grid = input_grid
        self._output_grid = output_grid

    def forward(self, inputs: Tensor) -> Tensor:
        """Float inputs to float outputs."""
        outputs = self.compute(_rounded(inputs, self._input_grid))
        if self._output_grid is None:
            return outputs
        scale, zero_point = self._output_grid
        return outputs.float().sub_(zero_point).mul_(scale)

    @abstractmethod
    def compute(self, codes: Tensor) -> Tensor:
        """uint8 codes of the input grid to floats, or to codes of the output grid where there is one."""

    def _arguments(self, codes: Tensor, packed: Tensor) -> tuple[Any, ...]:
        return (codes, *self._input_grid, packed, self._weight_scale, self._zero_points, self._bias)

    def _result(self) -> tuple[Any, ...]:
        if self._output_grid is None:
            return (1.0, 0, torch.float32, *_NO_POST_OP)
        return (*self._output_grid, torch.uint8, *_NO_POST_OP)


class IntegerConv2d(_IntegerLayer):
    """A convolution in integers.

    Args:
        codes: Weights, int8, shape (out_channels, in_channels / groups, kernel height, kernel width).
        weight_scale: One per output channel, shape (out_channels,).
        bias: Shape (out_channels,).
        stride: (height, width).
        padding: (height, width).
        dilation: (height, width).
        groups: Groups.
        input_grid: Grid of the inputs.
        output_grid: Grid of the outputs; None for floats.
    """

    def __init__(
        self,
        codes: Tensor,
        weight_scale: Tensor,
        bias: Tensor,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        input_grid: Grid,
        output_grid: Grid | None = None,
    ) -> None:
        super().__init__(weight_scale, bias, input_grid, output_grid)
        self._moves = (list(stride), list(padding), list(dilation), groups)
        self._packed = torch.ops.onednn.qconv_prepack(codes.contiguous(), self._weight_scale, *input_grid, *self._moves)

    @override
    def compute(self, codes: Tensor) -> Tensor:
        arguments = (*self._arguments(codes, self._packed), *self._moves, *self._result())
        outputs: Tensor = torch.ops.onednn.qconv2d_pointwise(*arguments)
        return outputs


class IntegerLinear(_IntegerLayer):
    """A linear layer in integers.

    Args:
        codes: Weights, int8, shape (out_features, in_features).
        weight_scale: One per output, shape (out_features,).
        bias: Shape (out_features,).
        input_grid: Grid of the inputs.
        output_grid: Grid of the outputs; None for floats.
    """

    def __init__(
        self, codes: Tensor, weight_scale: Tensor, bias: Tensor, *, input_grid: Grid, output_grid: Grid | None = None
    ) -> None:
        super().__init__(weight_scale, bias, input_grid, output_grid)
        self._packed = torch.ops.onednn.qlinear_prepack(codes.contiguous(), None)

    @override
    def compute(self, codes: Tensor) -> Tensor:
        outputs: Tensor = torch.ops.onednn.qlinear_pointwise(*self._arguments(codes, self._packed), *self._result())
        return outputs


def _rounded(inputs: Tensor, grid: Grid) -> Tensor:
    """What quantized_decomposed.quantize_per_tensor gives, which takes fresh memory for each of its steps."""
    scale, zero_point = grid
    # Half-precision inputs would be rounded to fewer steps than the grid has.
    return torch.mul(inputs.float(), 1.0 / scale).round_().add_(zero_point).clamp_(0, 255).to(torch.uint8)
