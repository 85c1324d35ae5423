"""The compiler's view of a network: layers with their weights, and the tensors between them."""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..blocks import Blocks
from ..weight_types import FLOAT32

__all__ = [
    "ACTIVATIONS",
    "INPUT",
    "Activation",
    "Add",
    "BatchNorm",
    "Concat",
    "Convolution",
    "Floats",
    "GlobalPool",
    "Layer",
    "Network",
    "Pair",
    "Place",
    "Pool",
    "Recurrent",
    "Rounding",
    "Shape",
    "Softmax",
    "Step",
    "View",
    "tensors_read",
]

Floats: TypeAlias = NDArray[np.float32]
Shape = tuple[int, int, int]
Pair = tuple[int, int]

#: The name of the network's input among the names of layers.
INPUT = "input"

#: Functions of one number that the emitted code knows.
ACTIVATIONS = ("", "hardsigmoid", "hardswish", "relu", "relu6", "sigmoid", "silu", "tanh")


@dataclass(frozen=True, eq=False)
class Layer:
    """One step of a network.

    Attributes:
        name: Unique; also the name of the tensor that comes out.
        inputs: Names of the tensors that go in.
        shape: Of what comes out without the batch axis: (channels, height, width). A vector is (features, 1, 1), a
            sequence (features, 1, steps).
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape

    def with_inputs(self, *inputs: str) -> "Layer":
        """The same layer reading others."""
        return replace(self, inputs=inputs)


@dataclass(frozen=True, eq=False)
class Convolution(Layer):
    """A convolution, or a linear map as a convolution over what it reads at once.

    Attributes:
        weight: Shape (outputs, channels / groups, kernel height, kernel width).
        bias: Shape (outputs,).
        stride: Of height and width.
        padding: Zeros above and left of the image; below and right as many as the output's shape needs.
        dilation: Of height and width.
        groups: Groups of channels.
        activation: Applied last, one of `ACTIVATIONS`.
        residual: Name of a tensor of the output's shape that is added before the activation; "" for none.
        blocks: Which rectangles of the matrix (outputs, K) are kept; None where nothing is known.
        kept_rows: Outputs that somebody reads, bool, shape (outputs,); None for all.
        weight_type: How the weights are stored.
        scale: What each output's products are multiplied by, shape (outputs,); None where the weights are floats.
    """

    weight: Floats
    bias: Floats
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: str = ""
    residual: str = ""
    blocks: Blocks | None = None
    kept_rows: NDArray[np.bool_] | None = None
    weight_type: str = FLOAT32
    scale: Floats | None = None

    @property
    def kernel(self) -> Pair:
        """Kernel height and width."""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def matrix(self) -> Floats:
        """The weight as (outputs, K)."""
        return self.weight.reshape(len(self.weight), -1)

    @property
    def is_depthwise(self) -> bool:
        """Whether each output reads one channel, its own."""
        return self.groups > 1 and self.weight.shape[:2] == (self.groups, 1)


@dataclass(frozen=True, eq=False)
class BatchNorm(Layer):
    """scale * x + shift, channel by channel; what is left where it cannot be folded.

    Attributes:
        scale: Shape (channels,).
        shift: Shape (channels,).
    """

    scale: Floats
    shift: Floats


@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """A function of each number.

    Attributes:
        function: One of `ACTIVATIONS`.
    """

    function: str


@dataclass(frozen=True, eq=False)
class Rounding(Layer):
    """Numbers rounded to the grid of a layer of 8 or fewer bits.

    Attributes:
        scale: Of the grid.
        zero_point: Of the grid.
        lowest: Code.
        highest: Code.
    """

    scale: float
    zero_point: int
    lowest: int = 0
    highest: int = 255


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """The sum of two tensors of one shape, and an activation.

    Attributes:
        activation: Applied to the sum.
    """

    activation: str = ""


@dataclass(frozen=True, eq=False)
class Pool(Layer):
    """Maximum or mean of windows.

    Attributes:
        is_maximum: Else the mean.
        kernel: Height and width of a window.
        stride: Of height and width.
        padding: Above and left; no part of a maximum.
        counts_padding: Whether a mean divides by the whole window at the border.
    """

    is_maximum: bool
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    counts_padding: bool = True


@dataclass(frozen=True, eq=False)
class GlobalPool(Layer):
    """Mean or maximum of each channel.

    Attributes:
        is_maximum: Else the mean.
    """

    is_maximum: bool = False


@dataclass(frozen=True, eq=False)
class Concat(Layer):
    """Channels of several tensors after each other."""


@dataclass(frozen=True, eq=False)
class Place(Layer):
    """Every stride-th pixel, shifted; each channel is one of the input's or zeros.

    Attributes:
        sources: Of each output channel the input's, -1 for zeros.
        stride: Of height and width.
        offset: Pixels above and left that are skipped; negative where zeros are put.
    """

    sources: tuple[int, ...]
    stride: Pair = (1, 1)
    offset: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class View(Layer):
    """The same numbers in another shape, channel after channel."""


@dataclass(frozen=True, eq=False)
class Step(Layer):
    """One step of a sequence.

    Attributes:
        step: From 0.
    """

    step: int


@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """Over the features of a vector.

    Attributes:
        is_log: Its logarithm instead.
    """

    is_log: bool = False


@dataclass(frozen=True, eq=False)
class Recurrent(Layer):
    """One direction of a GRU or LSTM over a sequence, from a state of zeros.

    Attributes:
        kind: "gru" or "lstm", with PyTorch's order of gates (r, z, n; i, f, g, o).
        input_weight: Shape (gates * hidden, features).
        state_weight: Shape (gates * hidden, hidden).
        input_bias: Shape (gates * hidden,).
        state_bias: Shape (gates * hidden,).
        is_reversed: Whether it reads the last step first.
        input_blocks: Of `input_weight`.
        state_blocks: Of `state_weight`.
        weight_type: How the weights are stored.
        input_scale: What the products of each row of `input_weight` are multiplied by; None where they are floats.
        state_scale: The same of `state_weight`.
    """

    kind: str
    input_weight: Floats
    state_weight: Floats
    input_bias: Floats
    state_bias: Floats
    is_reversed: bool = False
    input_blocks: Blocks | None = None
    state_blocks: Blocks | None = None
    weight_type: str = FLOAT32
    input_scale: Floats | None = None
    state_scale: Floats | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """Layers in order of execution.

    Attributes:
        layers: In order; each reads `INPUT` or layers before it.
        input_shape: As the user gives it, without the batch axis.
        output_shape: As the user gets it, without the batch axis.
        output: Name of the layer whose tensor is the network's output.
        image_shape: The input as (channels, height, width).
        is_sequence: Whether the input is (steps, features), channels last.
        gives_sequence: Whether the output is.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    output: str
    image_shape: Shape
    is_sequence: bool = False
    gives_sequence: bool = False

    def readers(self, name: str) -> list[Layer]:
        """The layers that read a tensor, as input or as residual."""
        return [layer for layer in self.layers if name in tensors_read(layer)]

    def shape_of(self, name: str) -> Shape:
        """The shape of a tensor."""
        return self.image_shape if name == INPUT else next(layer.shape for layer in self.layers if layer.name == name)


def tensors_read(layer: Layer) -> tuple[str, ...]:
    """Names of all tensors that a layer reads."""
    residual = (layer.residual,) if isinstance(layer, Convolution) and layer.residual else ()
    return (*layer.inputs, *residual)
