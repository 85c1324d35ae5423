"""Where choices are made: the layers of a network that can be compressed, and its head."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..graph.graph import Graph, Operator
from ..graph.opspec import Shape
from .layers import ConvGeometry

__all__ = ["HEAD", "Site", "SiteKind", "find_sites"]

SiteKind = Literal["conv2d", "linear", "head"]

#: Name of the site that stands for all fully connected layers at the end of a network.
HEAD = "head"


@dataclass(frozen=True, slots=True)
class Site:
    """A place where a choice is made.

    Attributes:
        name: Dotted path of the layer, or `HEAD`.
        kind: "conv2d", "linear" or "head".
        input_shape: Shape of the input without the batch axis; of a head, the feature map before it is flattened.
        output_shape: Shape of the output without the batch axis.
        layers: Dotted paths of the layers that a choice replaces: (name,), or the head's linear layers in order.
        geometry: How the kernel of a convolution moves; None elsewhere.
        features: Widths of a head's layers from the flattened feature map to the output; () elsewhere.
        prunable: Whether output channels can be taken away without touching a layer that others depend on.
    """

    name: str
    kind: SiteKind
    input_shape: Shape
    output_shape: Shape
    layers: tuple[str, ...]
    geometry: ConvGeometry | None = None
    features: tuple[int, ...] = ()
    prunable: bool = False

    @property
    def in_channels(self) -> int:
        """Input channels of a convolution or head, input features of a linear layer."""
        return self.input_shape[-1] if self.kind == "linear" else self.input_shape[0]

    @property
    def out_channels(self) -> int:
        """Output channels or features."""
        return self.output_shape[-1] if self.kind == "linear" else self.output_shape[0]

    @property
    def groups(self) -> int:
        """Groups of the convolution; 1 elsewhere."""
        return self.geometry.groups if self.geometry else 1

    @property
    def weights(self) -> int:
        """Elements of the weights, without biases."""
        if self.kind == "head":
            return sum(a * b for a, b in zip(self.features, self.features[1:], strict=False))
        kernel = math.prod(self.geometry.kernel) if self.geometry else 1
        return self.out_channels * self.in_channels // self.groups * kernel

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return self.weights * (math.prod(self.output_shape[1:]) if self.kind == "conv2d" else 1)

    def narrowed(self, in_channels: int) -> "Site":
        """The same site when only some input channels (of a linear layer: features) are left."""
        if self.kind == "linear":
            return dataclasses.replace(self, input_shape=(*self.input_shape[:-1], in_channels))
        shape = (in_channels, *self.input_shape[1:])
        if self.kind == "head":
            return dataclasses.replace(self, input_shape=shape, features=(math.prod(shape), *self.features[1:]))
        if self.geometry and self.groups > 1:
            geometry = dataclasses.replace(self.geometry, groups=in_channels)
            output = (in_channels, *self.output_shape[1:])
            return dataclasses.replace(self, input_shape=shape, output_shape=output, geometry=geometry)
        return dataclasses.replace(self, input_shape=shape)


def find_sites(model: nn.Module, graph: Graph) -> tuple[tuple[Site, ...], dict[str, str]]:
    """All sites in order of execution, and why other layers with weights are none.

    Returns:
        The sites, not yet known to be prunable, and a mapping from layer to reason.
    """
    sites: list[Site] = []
    skipped: dict[str, str] = {}
    head = _find_head(graph)
    for operator in graph.operators:
        if operator.kind not in ("conv2d", "linear") or not operator.module or operator.module in skipped:
            continue
        if reason := _why_not(model.get_submodule(operator.module), graph, operator):
            skipped[operator.module] = reason
            continue
        if head and operator.module == head.layers[0]:
            sites.append(head)
        sites.append(_layer_site(model.get_submodule(operator.module), operator))
    return tuple(sites), skipped


def _why_not(layer: nn.Module, graph: Graph, operator: Operator) -> str:
    """Why a layer is no site; "" when it is one."""
    if len(graph.calls(operator.module)) > 1:
        return "it is called more than once"
    if type(layer) not in (nn.Conv2d, nn.Linear):
        return f"its class is {type(layer).__name__}, which no technique knows"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"it pads with {layer.padding_mode!r}, techniques pad with zeros"
    if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, str):
        return f"its padding is {layer.padding!r}, techniques need it in numbers"
    if isinstance(layer, nn.Linear) and len(operator.spec.input_shape) != 1:
        return "it is applied along an axis, techniques for it take one vector"
    return ""


def _layer_site(layer: nn.Module, operator: Operator) -> Site:
    spec = operator.spec
    if isinstance(layer, nn.Conv2d):
        geometry = ConvGeometry.of(layer)
        return Site(
            operator.module, "conv2d", spec.input_shape, spec.output_shape, (operator.module,), geometry=geometry
        )
    return Site(operator.module, "linear", spec.input_shape, spec.output_shape, (operator.module,))


def _find_head(graph: Graph) -> Site | None:
    """The chain flatten -> linear (-> activation -> linear)* at the end, if the feature map has positions to pool."""
    layers: list[Operator] = []
    current = graph[graph.output]
    while current.kind in ("linear", "activation") or (current.kind == "reshape" and len(_source_shape(current)) == 1):
        if current.kind == "linear":
            if not current.module or len(graph.calls(current.module)) > 1:
                return None
            layers.insert(0, current)
        if len(current.inputs) != 1 or current.inputs[0] == "input" or len(graph.consumers(current.inputs[0])) != 1:
            return None
        current = graph[current.inputs[0]]
    feature_map = _source_shape(current)
    is_flatten = current.kind == "reshape" and len(current.output_shape) == 1 and len(feature_map) == 3
    if not layers or not is_flatten or math.prod(feature_map[1:]) == 1:
        return None
    features = (layers[0].spec.input_shape[0], *(layer.output_shape[0] for layer in layers))
    return Site(HEAD, "head", feature_map, layers[-1].output_shape, tuple(o.module for o in layers), features=features)


def _source_shape(operator: Operator) -> Shape:
    return operator.spec.input_shape
