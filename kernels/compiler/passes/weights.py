"""Weights of fewer bits: each layer's are rounded to what its type can store."""

from dataclasses import replace

import numpy as np

from ....errors import ModelError
from ...weight_types import FLOAT32, checked_weight_type, rounded
from ..ir import Convolution, Floats, Layer, Network, Recurrent

__all__ = ["with_weight_type"]


def with_weight_type(network: Network, weight_type: str) -> Network:
    """The network with the weights of convolutions, linear and recurrent layers stored in a type.

    Depthwise convolutions, which have few, and biases stay floats. Scales are kept apart from the weights, so that a
    batch-norm that is folded later changes the scale and rounds nothing twice.

    Raises:
        ModelError: A weight that is to be rounded is no finite number.
        ValueError: There is no such type.
    """
    if checked_weight_type(weight_type) == FLOAT32:
        return network
    return replace(network, layers=tuple(_stored_as(layer, weight_type) for layer in network.layers))


def _stored_as(layer: Layer, weight_type: str) -> Layer:
    if isinstance(layer, Convolution) and not layer.is_depthwise:
        weight, scale = _rounded(layer.name, layer.matrix, weight_type)
        return replace(layer, weight=weight.reshape(layer.weight.shape), weight_type=weight_type, scale=scale)
    if isinstance(layer, Recurrent):
        weight, scale = _rounded(layer.name, layer.input_weight, weight_type)
        layer = replace(layer, input_weight=weight, input_scale=scale, weight_type=weight_type)
        weight, scale = _rounded(layer.name, layer.state_weight, weight_type)
        return replace(layer, state_weight=weight, state_scale=scale)
    return layer


def _rounded(name: str, matrix: Floats, weight_type: str) -> tuple[Floats, Floats]:
    if not np.isfinite(matrix).all():
        raise ModelError(f"{name} has weights that are no finite numbers, which cannot be stored as {weight_type}")
    return rounded(matrix, weight_type)
