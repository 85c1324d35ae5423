"""Where the numbers of a tensor lie: images plane by plane with zeros between rows, small ones point by point."""

import math
from collections import defaultdict
from dataclasses import dataclass

from .ir import INPUT, Convolution, Network, Pair, Recurrent, Shape

__all__ = ["Layout", "choose_layouts", "layer_reach"]

#: Vectors more that rows with zeros between them may cost before an image is laid out without.
_WASTE = 1.12

#: Images of at most this share of a vector's lanes are laid out point by point.
_SMALL = 0.6

#: Floats in a cache line.
_LINE = 16


@dataclass(frozen=True)
class Layout:
    """The place of channel c of the pixel (y, x): lead + c * channel_stride + (y * row_stride + x) * point_stride.

    Attributes:
        shape: (channels, height, width).
        row_stride: Points from a row to the next: the width, and zeros that serve as the right padding of one row and
            the left padding of the next.
        point_stride: Floats from a point to the next.
        channel_stride: Floats from a channel to the next.
        lead: Floats before the first number.
        length: Floats of the whole tensor with what lies around it.
        padding: Zeros above and below, left and right, that may be read.
    """

    shape: Shape
    row_stride: int
    point_stride: int
    channel_stride: int
    lead: int
    length: int
    padding: Pair

    @property
    def is_planar(self) -> bool:
        """Whether a channel's pixels lie side by side."""
        return self.point_stride == 1

    @property
    def points(self) -> int:
        """Points from the first to the last, those between rows included."""
        return self.shape[1] * self.row_stride

    def offset(self, channel: int, y: int, x: int) -> int:
        """Floats from the first number (not from the start of the tensor)."""
        return channel * self.channel_stride + (y * self.row_stride + x) * self.point_stride


def planar(shape: Shape, padding: Pair, lanes: int) -> Layout:
    """Plane by plane; vectors that reach over a plane's end write into zeros."""
    channels, height, width = shape
    row_stride = width + padding[1]
    # Copies are made by vectors that begin up to a row before the first pixel.
    lead = _rounded(max(padding[0], 1) * row_stride + max(padding[1], 1), _LINE)
    after = padding[0] * row_stride + padding[1] + lanes
    stride = _odd_lines(height * row_stride + after)
    return Layout(shape, row_stride, 1, stride, lead, lead + channels * stride, padding)


def pointwise(shape: Shape, padding: Pair, lanes: int) -> Layout:
    """Point by point, all channels of each side by side."""
    channels, height, width = shape
    row_stride = width + padding[1]
    around = padding[0] * row_stride + padding[1]
    # Points a power of two apart would compete for the same places of the cache.
    point = _odd_lines(channels) if height * width > 1 and channels >= _LINE else channels
    lead = _rounded(around * point, _LINE)
    length = lead + (height * row_stride + around) * point + lanes
    return Layout(shape, row_stride, point, 1, lead, _rounded(length, _LINE), padding)


def choose_layouts(network: Network, lanes: int, holds_input: bool = False) -> dict[str, Layout]:
    """The layout of every tensor: one for all of a height and width.

    Args:
        network: After all passes.
        lanes: Floats of a vector.
        holds_input: Whether the input lies like any other tensor and not where the user has it.
    """
    shapes = {INPUT: network.image_shape, **{layer.name: layer.shape for layer in network.layers}}
    sequences = _sequences(network)
    padding = _paddings(network, shapes)
    layouts = {}
    for name, shape in shapes.items():
        if name == INPUT and not (holds_input or _is_added(network)):
            layouts[name] = _as_given(shape, network.is_sequence)
            continue
        size = shape[1:]
        if name in sequences or math.prod(size) <= max(1, _SMALL * lanes):
            layouts[name] = pointwise(shape, padding[size], lanes)
        else:
            layouts[name] = planar(shape, padding[size] if _pays(size, padding[size], lanes) else (0, 0), lanes)
    return layouts


def _is_added(network: Network) -> bool:
    """Whether a convolution adds the network's input to its sums, for which both must lie alike."""
    return any(isinstance(layer, Convolution) and layer.residual == INPUT for layer in network.layers)


def _as_given(shape: Shape, is_sequence: bool) -> Layout:
    """The network's input where the user has it."""
    channels, height, width = shape
    if is_sequence:
        return Layout(shape, width, channels, 1, 0, 0, (0, 0))
    return Layout(shape, width, 1, height * width, 0, 0, (0, 0))


def _sequences(network: Network) -> set[str]:
    """Tensors that recurrent layers read or give, and what else has the shape of one."""
    if not any(isinstance(layer, Recurrent) for layer in network.layers) and not network.is_sequence:
        return set()
    shapes = {INPUT: network.image_shape, **{layer.name: layer.shape for layer in network.layers}}
    return {name for name, shape in shapes.items() if shape[1] == 1}


def _paddings(network: Network, shapes: dict[str, Shape]) -> dict[Pair, Pair]:
    """Height and width of an image -> the zeros around it that convolutions read."""
    padding: dict[Pair, Pair] = defaultdict(lambda: (0, 0))
    for layer in network.layers:
        if isinstance(layer, Convolution):
            size = shapes[layer.inputs[0]][1:]
            # A convolution with a stride reads a copy, for whose columns there must be room between the output's rows.
            _extend(padding, layer.shape[1:] if layer.stride[1] > 1 else size, _needed(layer, size))
    return padding


def _extend(padding: dict[Pair, Pair], size: Pair, needed: Pair) -> None:
    padding[size] = (max(padding[size][0], needed[0]), max(padding[size][1], needed[1]))


def _needed(layer: Convolution, size: Pair) -> Pair:
    if layer.stride[1] == 1:
        return layer_reach(layer, size)
    steps = [(x * layer.dilation[1] - layer.padding[1]) // layer.stride[1] for x in range(layer.kernel[1])]
    return 0, max(0, *steps) - min(0, *steps)


def layer_reach(layer: Convolution, size: Pair) -> Pair:
    """How far a convolution reads over an image's edges."""
    pairs = zip(size, layer.shape[1:], layer.kernel, layer.stride, layer.padding, layer.dilation, strict=True)
    reach = [max(p, (out - 1) * s + (k - 1) * d - p - (n - 1)) for n, out, k, s, p, d in pairs]
    return max(0, reach[0]), max(0, reach[1])


def _pays(size: Pair, padding: Pair, lanes: int) -> bool:
    """Whether zeros between the rows cost few vectors, so that no convolution has to copy its input."""
    height, width = size
    return math.ceil(height * (width + padding[1]) / lanes) <= _WASTE * math.ceil(height * width / lanes)


def _odd_lines(floats: int) -> int:
    """At least so many floats, an odd number of cache lines: what is so far apart has places of its own in a cache."""
    lines = -(-floats // _LINE)
    return (lines + 1 - lines % 2) * _LINE


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
