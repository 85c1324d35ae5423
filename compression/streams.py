"""Which channels residual additions tie together: who writes them, who carries them, who reads them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ..graph.graph import INPUT, Graph, Operator
from ..graph.opspec import Shape
from ..graph.placement import ChannelPlacement
from .site import Site

__all__ = ["Stream", "find_streams"]

#: Operators without weights that keep channels apart.
_PASSING = ("activation", "max_pool2d", "avg_pool2d", "global_avg_pool2d")

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass
class Stream:
    """Outputs of operators whose channels can only go together.

    Attributes:
        shape: Of what the first of its writers gives, without the batch axis.
        operators: Names of the operators whose outputs are part of it.
        writers: Dotted paths of the convolutions that write into it.
        followers: Dotted paths of batch-norms and depthwise convolutions that carry its channels.
        inputs: Layer that reads it -> for each channel the indices of its inputs at that layer.
        placed_in: Dotted paths of the placements whose outputs are part of it.
        placed_from: Dotted paths of the placements that read it.
        problem: Why channels cannot go; "" where they can.
    """

    shape: Shape = ()
    operators: list[str] = field(default_factory=list)
    writers: list[str] = field(default_factory=list)
    followers: list[str] = field(default_factory=list)
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    placed_in: list[str] = field(default_factory=list)
    placed_from: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def placements(self) -> tuple[str, ...]:
        """Dotted paths of the placements that read it or write into it."""
        return (*self.placed_in, *self.placed_from)

    @property
    def is_coupled(self) -> bool:
        """Whether several outputs are tied together."""
        return len(self.writers) + len(self.placements) > 1


def find_streams(graph: Graph, model: nn.Module, sites: Iterable[Site]) -> list[Stream]:
    """The streams of a network that convolutions write into, in order of their first writers.

    Args:
        graph: The network's trace.
        model: The network.
        sites: Its layers that can be rebuilt with fewer channels.
    """
    layers = {site.name: site for site in sites if site.is_layer}
    root = _joined(graph, model, layers)
    streams: dict[str, Stream] = {}
    for operator in graph.operators:
        stream = streams.setdefault(root[operator.name], Stream())
        stream.operators.append(operator.name)
        sources = [streams.setdefault(root[name], Stream()) for name in dict.fromkeys(operator.inputs)]
        _Reading(graph, model, layers, operator).enter(stream, sources)
    if INPUT in root:
        streams[root[INPUT]].problem = "its channels are those of the network's input"
    streams[root[graph.output]].problem = "its channels reach the network's output"
    return [stream for stream in streams.values() if stream.writers]


def _joined(graph: Graph, model: nn.Module, layers: Mapping[str, Site]) -> dict[str, str]:
    """Operator name -> name of the operator that stands for the outputs with the same channels."""
    root = {name: name for name in (INPUT, *(operator.name for operator in graph.operators))}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for operator in graph.operators:
        if _Reading(graph, model, layers, operator).keeps_channels:
            for source in operator.inputs:
                root[find(source)] = find(operator.name)
    return {name: find(name) for name in root}


@dataclass(frozen=True)
class _Reading:
    """What one operator does to the channels that it reads."""

    graph: Graph
    model: nn.Module
    layers: Mapping[str, Site]
    operator: Operator

    @property
    def keeps_channels(self) -> bool:
        """Whether every channel of the output is made of the same channel of every input."""
        operator = self.operator
        if operator.kind == "add":
            return all(_size(self._shape(name)) == _size(operator.output_shape) for name in operator.inputs)
        if operator.kind == "reshape":
            source, flat = operator.spec.input_shape, operator.output_shape
            return source == flat or (len(flat) == 1 and flat[0] == math.prod(source))
        keeps_count = operator.output_shape[0] == operator.spec.input_shape[0]
        return self._is_follower or (operator.kind in _PASSING and keeps_count and operator.spec.activation != "prelu")

    @property
    def _is_follower(self) -> bool:
        operator, site = self.operator, self.layers.get(self.operator.module)
        if site is not None:
            return site.groups == site.in_channels == site.out_channels > 1
        is_called_once = bool(operator.module) and len(self.graph.calls(operator.module)) == 1
        return is_called_once and type(self.model.get_submodule(operator.module)) in _BATCH_NORMS

    def _shape(self, name: str) -> Shape:
        return self.graph.input_shape if name == INPUT else self.graph[name].output_shape

    @property
    def _is_placement(self) -> bool:
        path = self.operator.module
        is_called_once = bool(path) and len(self.graph.calls(path)) == 1
        return is_called_once and isinstance(self.model.get_submodule(path), ChannelPlacement)

    def enter(self, stream: Stream, sources: list[Stream]) -> None:
        """Write the operator into the stream of its output and those of its inputs."""
        site = self.layers.get(self.operator.module)
        if self._is_follower:
            self._follow(stream)
        elif self._is_placement:
            stream.shape = stream.shape or self.operator.output_shape
            stream.placed_in.append(self.operator.module)
            sources[0].placed_from.append(self.operator.module)
        elif site is not None and site.groups == 1 and site.kind in ("conv2d", "linear"):
            self._read_and_write(site, stream, sources[0])
        elif not self.keeps_channels:
            for tied in (stream, *sources):
                tied.problem = tied.problem or self._problem

    def _follow(self, stream: Stream) -> None:
        stream.followers.append(self.operator.module)
        if stream.shape and self.operator.output_shape[0] != stream.shape[0]:
            stream.problem = f"its channels are flattened before {self.operator.module}"

    def _read_and_write(self, site: Site, stream: Stream, source: Stream) -> None:
        if source.shape:
            source.inputs[site.name] = torch.arange(site.in_channels).view(source.shape[0], -1)
        if site.kind == "linear":
            stream.problem = f"{site.name}, a linear layer, writes into its channels"
            return
        stream.writers.append(site.name)
        stream.shape = stream.shape or site.output_shape

    @property
    def _problem(self) -> str:
        operator = self.operator
        name = operator.module or operator.name
        if operator.kind == "conv2d" and operator.spec.groups > 1:
            return f"its channels pass through {name}, a grouped convolution"
        if operator.specs[-1].weights:
            return f"its channels are read or written by {name}, which is no site"
        return f"its channels pass through {name}, a {operator.kind}"


def _size(shape: Shape) -> tuple[int, int]:
    return shape[0], math.prod(shape)
