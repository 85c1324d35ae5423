"""Views that only rename axes."""

from dataclasses import replace

from ..ir import Convolution, Layer, Network, View
from .rewrite import without

__all__ = ["without_views"]


def without_views(network: Network) -> Network:
    """A linear map of a flattened image becomes a convolution as large as the image; views of one shape go."""
    by_name = {layer.name: layer for layer in network.layers}
    merged: dict[str, str] = {}
    changed: dict[str, Layer] = {}
    for view in network.layers:
        if not isinstance(view, View):
            continue
        source = network.shape_of(view.inputs[0]) if view.inputs[0] not in by_name else by_name[view.inputs[0]].shape
        readers = network.readers(view.name)
        if source == view.shape:
            merged[view.name] = view.inputs[0]
        elif view.name != network.output and all(_is_linear(reader, view.name) for reader in readers):
            merged[view.name] = view.inputs[0]
            for reader in readers:
                assert isinstance(reader, Convolution)
                changed[reader.name] = replace(reader, weight=reader.weight.reshape(len(reader.weight), *source))
    return without(network, merged, changed)


def _is_linear(layer: Layer, name: str) -> bool:
    reads_once = isinstance(layer, Convolution) and layer.groups == 1 and layer.residual != name
    return reads_once and layer.weight.shape[2:] == (1, 1) and layer.shape[1:] == (1, 1)  # type: ignore[attr-defined]
