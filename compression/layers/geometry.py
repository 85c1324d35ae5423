"""How a convolution moves over its input: everything but its channels and weights."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ...graph.describe import output_shape
from ...graph.opspec import OpSpec, Shape

__all__ = ["ConvGeometry"]

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """Kernel, stride, padding and dilation as (height, width), and groups."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.Conv1d) -> "ConvGeometry":
        """The geometry of a convolution whose padding is given in numbers; signals count as images of one row."""
        assert not isinstance(layer.padding, str)
        if isinstance(layer, nn.Conv1d):
            (kernel,), (stride,), (padding,), (dilation,) = (
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
            )
            return cls((1, kernel), (1, stride), (0, padding), (1, dilation), layer.groups)
        return cls(
            _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), _pair(layer.dilation), layer.groups
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ConvGeometry":
        """Rebuild what `to_dict` wrote."""
        pairs = {name: _pair(tuple(values[name])) for name in ("kernel", "stride", "padding", "dilation")}
        return cls(**pairs, groups=int(values["groups"]))

    def to_dict(self) -> dict[str, Any]:
        """The attributes, ready for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def layer(self, in_channels: int, out_channels: int, bias: bool) -> nn.Conv2d:
        """A new convolution of this geometry."""
        return nn.Conv2d(
            in_channels, out_channels, self.kernel, self.stride, self.padding, self.dilation, self.groups, bias
        )

    def convolve(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve `inputs` (N, C, H, W) with `weight`."""
        return functional.conv2d(inputs, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def patch_rows(self, inputs: Tensor) -> Tensor:
        """The patches under the kernel, one a row, the channels of one kernel position side by side.

        From maps whose channels lie side by side, that is a tenth of the work of `functional.unfold`.

        Args:
            inputs: Shape (N, C, H, W).

        Returns:
            Shape (N * positions, kernel height * kernel width * C).
        """
        (kernel, stride, dilation) = (self.kernel, self.stride, self.dilation)
        height, width = self.padding
        windows = functional.pad(inputs.movedim(1, -1), (0, 0, width, width, height, height)).contiguous()
        for axis in (0, 1):
            windows = windows.unfold(1 + axis, dilation[axis] * (kernel[axis] - 1) + 1, stride[axis])
        windows = windows[..., :: dilation[0], :: dilation[1]]
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, kernel[0] * kernel[1] * inputs.shape[1])

    def spec(self, input_shape: Shape, out_channels: int, bias: bool) -> OpSpec:
        """The descriptor of a convolution of this geometry on `input_shape` (C, H, W)."""
        partial = OpSpec(
            "conv2d", input_shape, (out_channels, 0, 0), self.kernel, self.stride, self.padding, self.dilation
        )
        return partial.replace(output_shape=output_shape(partial, input_shape), groups=self.groups, bias=bias)


def _pair(values: tuple[int, ...]) -> Pair:
    return (values[0], values[-1])
