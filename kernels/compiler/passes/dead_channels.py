"""Outputs that nobody reads, because all weights that read them were pruned, need not be computed."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..ir import (
    INPUT,
    Activation,
    Add,
    BatchNorm,
    Convolution,
    GlobalPool,
    Layer,
    Network,
    Pool,
    Recurrent,
    Rounding,
    tensors_read,
)

__all__ = ["without_dead_channels"]

Channels = NDArray[np.bool_]

#: Layers each of whose channels reads the same channel of all their inputs.
_BY_CHANNEL = (Activation, Add, BatchNorm, GlobalPool, Pool, Rounding)


def without_dead_channels(network: Network) -> Network:
    """Mark the outputs of convolutions that no later layer reads; their weights are dropped."""
    read: dict[str, Channels] = {layer.name: np.zeros(layer.shape[0], bool) for layer in network.layers}
    read[INPUT] = np.zeros(network.image_shape[0], bool)
    read[network.output][:] = True
    layers: list[Layer] = []
    for layer in reversed(network.layers):
        own = read[layer.name]
        changed = _marked(layer, own)
        for name in tensors_read(layer):
            read[name] |= _channels_read(changed, name, own, len(read[name]))
        layers.append(changed)
    return replace(network, layers=tuple(reversed(layers)))


def _marked(layer: Layer, own: Channels) -> Layer:
    if not isinstance(layer, Convolution) or own.all():
        return layer
    weight = np.where(own[:, None, None, None], layer.weight, np.float32(0))
    return replace(layer, weight=weight, kept_rows=own)


def _channels_read(layer: Layer, name: str, own: Channels, channels: int) -> Channels:
    """Which channels of the tensor `name` a layer reads to give those of `own`."""
    if isinstance(layer, _BY_CHANNEL):
        return own
    if not isinstance(layer, Convolution):
        return _read_by(layer, channels)
    if layer.residual == name and name not in layer.inputs:
        return own
    per_group = layer.weight.shape[1]
    is_read: Channels = np.logical_or.reduce(np.asarray(layer.weight, bool), axis=(2, 3))
    reads: Channels = is_read.reshape(layer.groups, -1, per_group).any(1).flatten()
    return reads | own if layer.residual == name else reads


def _read_by(layer: Layer, channels: int) -> Channels:
    if isinstance(layer, Recurrent):
        found: Channels = (layer.input_weight != 0).any(0)
        return found
    return np.ones(channels, bool)
