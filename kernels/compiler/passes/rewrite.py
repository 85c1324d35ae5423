"""Taking layers out of a network."""

from collections.abc import Mapping
from dataclasses import replace

from ..ir import Convolution, Layer, Network

__all__ = ["only_reader", "rewired", "without"]


def only_reader(network: Network, name: str) -> Layer | None:
    """Who alone reads a tensor; None where several do or where it is the network's output."""
    readers = network.readers(name)
    return readers[0] if len(readers) == 1 and name != network.output else None


def rewired(layer: Layer, names: Mapping[str, str]) -> Layer:
    """The layer reading other tensors in the place of those that `names` renames."""
    layer = layer.with_inputs(*(names.get(name, name) for name in layer.inputs))
    if isinstance(layer, Convolution) and layer.residual in names:
        return replace(layer, residual=names[layer.residual])
    return layer


def without(network: Network, merged: Mapping[str, str], changed: Mapping[str, Layer]) -> Network:
    """The network without some layers.

    Args:
        network: Is not changed.
        merged: Name of a layer that goes -> name of the tensor that takes the place of its own.
        changed: Name of a layer -> what takes its place.
    """

    def final(name: str) -> str:
        while name in merged:
            name = merged[name]
        return name

    names = {name: final(name) for name in merged}
    left = [layer for layer in network.layers if layer.name not in merged]
    layers = tuple(rewired(changed.get(layer.name, layer), names) for layer in left)
    return replace(network, layers=layers, output=names.get(network.output, network.output))
