"""What is known of an exported graph's tensors while it is walked."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from ....errors import ModelError
from ....graph.exported import aten_name
from ...blocks import Blocks
from ..ir import INPUT, Floats, Layer, Shape
from .nodes import shape_of

__all__ = ["IMAGE", "KINDS", "SEQUENCE", "SIGNAL", "VECTOR", "Graph", "Known", "Readers", "image_shape"]

#: What the axes of a tensor (without the batch) are: (channels, height, width), (channels, steps), (steps, features) or
#: (features).
IMAGE, SIGNAL, SEQUENCE, VECTOR = "image", "signal", "sequence", "vector"

#: Number of axes with the batch -> what they are after a reshape.
KINDS = {2: VECTOR, 3: SIGNAL, 4: IMAGE}


@dataclass(frozen=True)
class Known:
    """A tensor of the graph: the layer that gives it, and what its axes are."""

    name: str
    kind: str
    shape: Shape


@dataclass
class Graph:
    """The layers found so far, and the tensors that later ones read.

    Attributes:
        program: What is read.
        blocks: Kept blocks of pruned weights, by the names of parameters.
        known: Tensors that depend on the input.
        constants: Tensors that do not.
        layers: In the order of their execution.
        input_shape: As the user gives it, without the batch axis.
    """

    program: torch.export.ExportedProgram
    blocks: dict[str, Blocks]
    known: dict[fx.Node, Known] = field(default_factory=dict)
    constants: dict[fx.Node, Tensor] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    input_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Find the names of the parameters."""
        signature = self.program.graph_signature
        self._owners = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self._state = {**self.program.state_dict, **self.program.constants}

    def give_input(self, node: fx.Node, kind: str) -> None:
        """The network's input, with axes of the given kind."""
        self.input_shape = tuple(node.meta["val"].shape[1:])
        self.known[node] = Known(INPUT, kind, image_shape(self.input_shape, kind))

    def give_parameter(self, node: fx.Node) -> None:
        """A parameter, a buffer or a constant of the module."""
        if (owner := self._owners.get(node.name)) is not None:
            self.constants[node] = self._state[owner].detach()

    def give_constant(self, node: fx.Node) -> None:
        """What does not depend on the input is computed now, where all that it reads is known."""

        def value(argument: Any) -> Any:
            return self.constants[argument] if isinstance(argument, fx.Node) else argument

        if any(source not in self.constants for source in node.all_input_nodes):
            return
        arguments = fx.map_arg(node.args, value)
        keywords = fx.map_arg(node.kwargs, value)
        with torch.no_grad():
            self.constants[node] = node.target(*arguments, **keywords)  # type: ignore[operator]  # a call_function

    def add(self, node: fx.Node, layer: Callable[..., Layer], *sources: fx.Node, kind: str = "", **own: Any) -> None:
        """A layer whose output has the node's shape and, unless `kind` says otherwise, the axes of its first input."""
        known = [self.known[source] for source in sources]
        kind = kind or known[0].kind
        shape = image_shape(shape_of(node)[1:], kind)
        self.layers.append(layer(node.name, tuple(one.name for one in known), shape, **own))
        self.known[node] = Known(node.name, kind, shape)

    def expect(self, node: fx.Node, *kinds: str) -> None:
        """Refuse an operator that reads other axes than it is compiled for.

        Raises:
            ModelError: It does.
        """
        known = self.known[node.all_input_nodes[0]]
        if known.kind not in kinds:
            raise ModelError(f"{aten_name(node)} of {known.kind} {known.shape} cannot be compiled")

    def array(self, argument: Any, length: int = 0) -> Floats:
        """A constant argument as floats; zeros of `length` where there is none."""
        if argument is None:
            return np.zeros(length, np.float32)
        array: Floats = self.constants[argument].float().contiguous().numpy()
        return array

    def number(self, argument: Any) -> float:
        """A constant argument as a number."""
        return float(self.constants[argument]) if isinstance(argument, fx.Node) else float(argument)

    def given(self, argument: fx.Node) -> Tensor:
        """A constant operand.

        Raises:
            ModelError: Its value is not known.
        """
        if argument not in self.constants:
            raise ModelError(f"{argument.name}, an operand, is known only when the network runs")
        return self.constants[argument]

    def blocks_of(self, argument: Any) -> Blocks | None:
        """What a weight keeps, where it was pruned in blocks."""
        return self.blocks.get(self._owners.get(argument.name, ""))


#: How operators are read, by their ATen names.
Readers = dict[str, Callable[[Graph, fx.Node], None]]


def image_shape(shape: tuple[int, ...], kind: str) -> Shape:
    """A shape without the batch axis as (channels, height, width)."""
    if kind == IMAGE:
        return shape[0], shape[1], shape[2]
    if kind == SIGNAL:
        return shape[0], 1, shape[1]
    if kind == SEQUENCE:
        return shape[1], 1, shape[0]
    return math.prod(shape), 1, 1
