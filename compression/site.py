"""Where choices are made: layers, the head, blocks that a shortcut leads around, and the widths of residual streams."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..graph.graph import Graph, Operator
from ..graph.opspec import GATES, Shape
from .blocks import find_blocks
from .layers import ConvGeometry

__all__ = ["HEAD", "Site", "SiteKind", "find_sites", "layer_site"]

SiteKind = Literal["conv2d", "linear", "recurrent", "head", "block", "width"]

#: Name of the site that stands for all fully connected layers at the end of a network.
HEAD = "head"


@dataclass(frozen=True, slots=True)
class Site:
    """A place where a choice is made.

    Attributes:
        name: Dotted path of the layer, `HEAD`, the path of a block, or of a width that of the blocks that share it with
            ".width" behind.
        kind: "conv2d" (over signals, too, which count as images of one row), "linear", "recurrent", "head", "block"
            (what a shortcut leads around) or "width" (the channels that residual additions tie together).
        input_shape: Shape of the input without the batch axis; of a head, the feature map before it is flattened; of a
            recurrent layer (steps, features).
        output_shape: Shape of the output without the batch axis.
        layers: Dotted paths of the layers that a choice replaces: (name,), the head's linear layers in order, the
            layers of a block in order; () of a width, which leaves others in place with fewer channels.
        geometry: How the kernel of a convolution moves; None elsewhere.
        features: Widths of a head's layers from the flattened feature map to the output; () elsewhere.
        prunable: Whether output channels can be taken away without touching a layer that others depend on.
        over_signals: Whether the layer is an nn.Conv1d.
        cell: "gru" or "lstm" of a recurrent layer; "" elsewhere.
        cells: Layers of a recurrent stack, a direction counted as a layer; 0 elsewhere.
    """

    name: str
    kind: SiteKind
    input_shape: Shape
    output_shape: Shape
    layers: tuple[str, ...]
    geometry: ConvGeometry | None = None
    features: tuple[int, ...] = ()
    prunable: bool = False
    over_signals: bool = False
    cell: str = ""
    cells: int = 0

    @property
    def is_layer(self) -> bool:
        """Whether the site is one layer."""
        return self.kind not in ("head", "block", "width")

    @property
    def in_channels(self) -> int:
        """Input channels of a convolution, head, block or width, input features of a linear or recurrent layer."""
        return self.input_shape[-1] if self.kind in ("linear", "recurrent") else self.input_shape[0]

    @property
    def out_channels(self) -> int:
        """Output channels or features."""
        return self.output_shape[-1] if self.kind in ("linear", "recurrent") else self.output_shape[0]

    @property
    def groups(self) -> int:
        """Groups of the convolution; 1 elsewhere."""
        return self.geometry.groups if self.geometry else 1

    @property
    def weights(self) -> int:
        """Elements of the weights, without biases."""
        if self.kind == "head":
            return sum(a * b for a, b in zip(self.features, self.features[1:], strict=False))
        if self.kind in ("block", "width"):
            return 0
        if self.kind == "recurrent":
            return self._recurrent_weights
        kernel = math.prod(self.geometry.kernel) if self.geometry else 1
        return self.out_channels * self.in_channels // self.groups * kernel

    @property
    def _recurrent_weights(self) -> int:
        """Of one layer, forwards, exactly; of a stack, as many layers of the same width."""
        hidden = self.out_channels
        first = GATES[self.cell] * hidden * (self.in_channels + hidden)
        return first + (self.cells - 1) * GATES[self.cell] * hidden * 2 * hidden

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference; 0 of a block or width, whose layers are sites of their own."""
        times = {"conv2d": math.prod(self.output_shape[1:]), "recurrent": self.input_shape[0]}
        return self.weights * times.get(self.kind, 1)

    def with_outputs(self, channels: int) -> "Site":
        """The same site with fewer output channels or features."""
        if self.kind in ("linear", "recurrent"):
            return dataclasses.replace(self, output_shape=(*self.output_shape[:-1], channels))
        return dataclasses.replace(self, output_shape=(channels, *self.output_shape[1:]))

    def narrowed(self, in_channels: int) -> "Site":
        """The same site when only some input channels (of a linear or recurrent layer: features) are left."""
        if self.kind in ("linear", "recurrent"):
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

    A head or block comes before the layers inside it.

    Returns:
        The sites, not yet known to be prunable, and a mapping from layer to reason.
    """
    sites: list[Site] = []
    skipped: dict[str, str] = {}
    head = _find_head(graph)
    blocks = {block.first: block for block in find_blocks(graph)}
    for operator in graph.operators:
        if operator.name in blocks:
            block = blocks[operator.name]
            sites.append(Site(block.name, "block", block.shape, block.shape, block.layers))
        is_candidate = operator.kind in ("conv2d", "linear", *GATES) and operator.module
        if not is_candidate or operator.module in skipped:
            continue
        layer = model.get_submodule(operator.module)
        if reason := _why_not(layer, graph, operator):
            skipped[operator.module] = reason
            continue
        if head and operator.module == head.layers[0]:
            sites.append(head)
        sites.append(layer_site(operator.module, layer, operator.specs[0].input_shape))
    return tuple(sites), skipped


def _why_not(layer: nn.Module, graph: Graph, operator: Operator) -> str:
    """Why a layer is no site; "" when it is one."""
    if len(graph.calls(operator.module)) > 1:
        return "it is called more than once"
    if type(layer) not in (nn.Conv2d, nn.Conv1d, nn.Linear, nn.GRU, nn.LSTM):
        return f"its class is {type(layer).__name__}, which no technique knows"
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return _why_not_convolution(layer)
    if isinstance(layer, nn.LSTM) and layer.proj_size:
        return "its hidden state is projected, which no technique knows"
    if isinstance(layer, nn.Linear) and len(operator.spec.input_shape) != 1:
        return "it is applied along an axis, techniques for it take one vector"
    return ""


def _why_not_convolution(layer: nn.Conv1d | nn.Conv2d) -> str:
    if layer.padding_mode != "zeros":
        return f"it pads with {layer.padding_mode!r}, techniques pad with zeros"
    if isinstance(layer.padding, str):
        return f"its padding is {layer.padding!r}, techniques need it in numbers"
    return ""


def layer_site(name: str, layer: nn.Module, input_shape: Shape) -> Site:
    """The site of one layer.

    Args:
        name: Dotted path of the layer.
        layer: A convolution, linear or recurrent layer, or one that is stored as one.
        input_shape: Shape of its input without the batch axis; of an nn.Conv1d, as an image of one row.
    """
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        geometry = ConvGeometry.of(layer)
        shape = geometry.spec(input_shape, layer.out_channels, bias=True).output_shape
        is_signal = isinstance(layer, nn.Conv1d)
        return Site(name, "conv2d", input_shape, shape, (name,), geometry=geometry, over_signals=is_signal)
    if isinstance(layer, nn.GRU | nn.LSTM):
        directions = 2 if layer.bidirectional else 1
        shape = (input_shape[0], layer.hidden_size * directions)
        cell = "gru" if isinstance(layer, nn.GRU) else "lstm"
        return Site(name, "recurrent", input_shape, shape, (name,), cell=cell, cells=layer.num_layers * directions)
    assert isinstance(layer, nn.Linear)
    return Site(name, "linear", input_shape, (*input_shape[:-1], layer.out_features), (name,))


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
