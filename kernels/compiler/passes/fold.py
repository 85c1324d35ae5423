"""Merging what follows a convolution into it: batch-norm, activation, residual sum."""

from dataclasses import replace

import numpy as np

from ..ir import Activation, Add, BatchNorm, Convolution, Layer, Network
from .rewrite import only_reader, without

__all__ = ["with_folded_norms", "with_fused_activations", "with_fused_sums"]


def with_folded_norms(network: Network) -> Network:
    """Each batch-norm that alone reads a convolution becomes part of its weights, or of their scales."""
    merged: dict[str, str] = {}
    changed: dict[str, Layer] = {}
    for layer in network.layers:
        norm = only_reader(network, layer.name)
        # Between a convolution and its norm nothing is fused yet.
        if isinstance(layer, Convolution) and isinstance(norm, BatchNorm):
            merged[norm.name] = layer.name
            changed[layer.name] = _folded(layer, norm)
    return without(network, merged, changed)


def _folded(layer: Convolution, norm: BatchNorm) -> Convolution:
    scale = norm.scale.astype(np.float64)
    bias = (layer.bias * scale + norm.shift).astype(np.float32)
    if layer.scale is not None:
        return replace(layer, scale=(layer.scale * scale).astype(np.float32), bias=bias)
    return replace(layer, weight=(layer.weight * scale[:, None, None, None]).astype(np.float32), bias=bias)


def with_fused_activations(network: Network) -> Network:
    """Each activation that alone reads a convolution or a sum is computed in the same pass."""
    merged: dict[str, str] = {}
    changed: dict[str, Layer] = {}
    for layer in network.layers:
        follower = only_reader(network, layer.name)
        is_free = isinstance(layer, Convolution | Add) and not layer.activation
        if is_free and isinstance(follower, Activation):
            merged[follower.name] = layer.name
            changed[layer.name] = replace(layer, activation=follower.function)  # type: ignore[call-arg]  # both have one
    return without(network, merged, changed)


def with_fused_sums(network: Network) -> Network:
    """A convolution that only a sum reads adds the other operand itself, in the sum's place."""
    for layer in network.layers:
        if isinstance(layer, Add) and layer.inputs[0] != layer.inputs[1]:
            network = _with_fused_sum(network, layer)
    return network


def _with_fused_sum(network: Network, add: Add) -> Network:
    by_name = {layer.name: layer for layer in network.layers}
    # The later operand: its input is more likely still in the cache, and nothing has to wait for it.
    for name, other in (add.inputs[::-1], add.inputs):
        host = by_name.get(name)
        if isinstance(host, Convolution) and _can_add(host) and only_reader(network, name) is add:
            fused = replace(host, name=add.name, residual=other, activation=add.activation)
            layers = [fused if layer is add else layer for layer in network.layers if layer is not host]
            return replace(network, layers=tuple(layers))
    return network


def _can_add(layer: Convolution) -> bool:
    return not (layer.activation or layer.residual or layer.is_depthwise)
