"""Activations that write over what they read, where nobody else wants to read it.

Fresh memory for a large map costs more than computing it; over the old map an activation is nearly free.
"""

from collections.abc import Mapping

from torch import nn

from .graph import INPUT, Graph, Operator
from .layers import replaced

__all__ = ["overwritable", "overwriting"]

#: Layers whose outputs are tensors of their own; those of other layers may be their inputs in disguise.
_FRESH = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6)

#: Kinds of operators that never give a part or another view of their input.
_COMPUTED = ("conv2d", "linear", "batch_norm", "activation", "add")

Sources = tuple[tuple[str, ...], ...]


def overwritable(graph: Graph) -> dict[str, Sources]:
    """Activations that alone read the output of a layer or a sum.

    Returns:
        Dotted path of an activation -> for each of its calls the paths of the layers that its input is from, the
        nearest first: a batch-norm and the layer before it, which is the source where the batch-norm was folded; none
        for a sum, which always is a tensor of its own.
    """
    places = {operator.name: place for place, operator in enumerate(graph.operators)}
    found: dict[str, list[tuple[str, ...] | None]] = {}
    for operator in graph.operators:
        if operator.kind == "activation" and operator.module:
            found.setdefault(operator.module, []).append(_sources(graph, operator, places))
    return {
        path: tuple(layers for layers in calls if layers is not None)
        for path, calls in found.items()
        if None not in calls
    }


def _sources(graph: Graph, activation: Operator, places: Mapping[str, int]) -> tuple[str, ...] | None:
    """Layers that an activation's input is from; None where others may read it."""
    layers: list[str] = []
    source = _only_read_by(graph, activation)
    if source and source.kind == "batch_norm" and source.module:
        layers.append(source.module)
        source = _only_read_by(graph, source)
    if source and source.kind == "add" and not layers:
        return () if _is_last_reader(graph, source, places) else None
    if source and source.kind in ("conv2d", "linear") and source.module:
        layers.append(source.module)
    return tuple(layers) or None


def _only_read_by(graph: Graph, reader: Operator) -> Operator | None:
    """What an operator reads, if nobody else does."""
    if len(reader.inputs) != 1 or reader.inputs[0] == INPUT:
        return None
    source = graph[reader.inputs[0]]
    return source if graph.consumers(source.name) == (reader,) and source.name != graph.output else None


def _is_last_reader(graph: Graph, total: Operator, places: Mapping[str, int]) -> bool:
    """Whether nobody reads a summand, or what it may be a view of, after the sum: it may have been added into it."""
    waiting = list(total.inputs)
    while waiting:
        name = waiting.pop()
        if any(places[reader.name] > places[total.name] for reader in graph.consumers(name)):
            return False
        if name != INPUT and graph[name].kind not in _COMPUTED:
            waiting.extend(graph[name].inputs)
    return True


def overwriting(network: nn.Module, activations: Mapping[str, Sources]) -> nn.Module:
    """The same function for inference, with activations that write over their inputs.

    Args:
        network: Some of its layers may be others than those that were traced; it is not changed.
        activations: See `overwritable`.
    """
    twin = replaced(network, lambda _: None)
    for path, calls in activations.items():
        activation = network.get_submodule(path)
        if type(activation) in _ACTIVATIONS and all(_is_fresh(network, layers) for layers in calls):
            twin.set_submodule(path, type(activation)(inplace=True))
    return twin


def _is_fresh(network: nn.Module, layers: tuple[str, ...]) -> bool:
    there = (network.get_submodule(path) for path in layers)
    nearest = next((layer for layer in there if type(layer) is not nn.Identity), None)
    return not layers or type(nearest) in _FRESH
