"""PyTorch's own layers as compressed networks use them: their operators, and their arithmetic on given weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...graph.describe import module_specs, recurrent_shape
from ...graph.opspec import OpSpec, Shape
from .geometry import ConvGeometry
from .layer import CompressedLayer

__all__ = ["compute", "layer_specs"]


def layer_specs(module: nn.Module, input_shape: Shape) -> tuple[OpSpec, ...]:
    """The operators of a module made of ordinary layers and layers of ours, one after the other.

    Args:
        module: Such a module.
        input_shape: Shape of its input without the batch axis.
    """
    if not isinstance(module, nn.Sequential):
        return _leaf_specs(module, input_shape)
    specs: list[OpSpec] = []
    for child in module:
        specs.extend(layer_specs(child, input_shape))
        input_shape = specs[-1].output_shape
    return tuple(specs)


def _leaf_specs(module: nn.Module, input_shape: Shape) -> tuple[OpSpec, ...]:
    if isinstance(module, CompressedLayer):
        return module.op_specs(input_shape)
    if isinstance(module, nn.Linear):
        return module_specs(module, input_shape, (*input_shape[:-1], module.out_features))
    if isinstance(module, nn.RNNBase):
        return module_specs(module, input_shape, recurrent_shape(module, input_shape))
    if isinstance(module, nn.ReLU):
        return module_specs(module, input_shape, input_shape)
    assert isinstance(module, nn.Conv2d)
    return (ConvGeometry.of(module).spec(input_shape, module.out_channels, module.bias is not None),)


def compute(layer: nn.Module, tensors: Mapping[str, Tensor], inputs: Tensor) -> Any:
    """What `layer` would give if `tensors` were its weights: one tensor, of a recurrent layer outputs and last state.

    Args:
        layer: A convolution, a linear or a recurrent layer, of which nothing but the shape is read.
        tensors: By the names of its parameters.
        inputs: Its input.
    """
    if isinstance(layer, nn.Conv2d):
        return ConvGeometry.of(layer).convolve(inputs, tensors["weight"], tensors.get("bias"))
    if isinstance(layer, nn.Linear):
        return functional.linear(inputs, tensors["weight"], tensors.get("bias"))
    assert isinstance(layer, nn.GRU | nn.LSTM)
    return _recur(layer, tensors, inputs)


def _recur(layer: nn.GRU | nn.LSTM, tensors: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, Any]:
    weights = [tensors[name] for name, _ in layer.named_parameters()]
    states = layer.num_layers * (2 if layer.bidirectional else 1)
    zeros = inputs.new_zeros(states, inputs.shape[0], layer.hidden_size)
    options = (layer.bias, layer.num_layers, 0.0, False, layer.bidirectional, True)
    if isinstance(layer, nn.GRU):
        outputs, hidden = torch.gru(inputs, zeros, weights, *options)
        return outputs, hidden
    outputs, hidden, cell = torch.lstm(inputs, (zeros, zeros), weights, *options)
    return outputs, (hidden, cell)
