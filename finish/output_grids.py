"""Giving 8-bit layers a grid for their outputs, so that an engine can hand integers from one to the next."""

import copy

import torch
from torch import Tensor, nn

from ..compression.calibration import eight_bit_range
from ..compression.layers import QuantizedConv2d, QuantizedLinear
from ..graph.fusion import Fusion
from ..graph.graph import Graph

__all__ = ["with_output_grids"]

_SAMPLE = 65536


@torch.no_grad()
def with_output_grids(network: nn.Module, graph: Graph, fusion: Fusion, inputs: Tensor) -> nn.Module:
    """A copy of a network whose 8-bit layers round their outputs too, each to the range of its own outputs.

    Where a ReLU follows in the same pass, the range begins at 0: what lies below is cut off anyway.

    Args:
        network: Batch-norms folded.
        graph: The original's trace.
        fusion: What engines merge in it.
        inputs: Calibration inputs, shape (images, C, H, W).
    """
    twin = copy.deepcopy(network)
    rectified = {graph[name].module for name in fusion.activation}
    layers = {
        path: layer for path, layer in twin.named_modules() if isinstance(layer, QuantizedConv2d | QuantizedLinear)
    }
    seen: dict[str, Tensor] = {}

    def recorder(path: str) -> object:
        def record(_: nn.Module, __: object, output: Tensor) -> None:
            seen[path] = output

        return record

    hooks = [layer.register_forward_hook(recorder(path)) for path, layer in layers.items()]  # type: ignore[arg-type]
    twin(inputs)
    for hook in hooks:
        hook.remove()
    for path, layer in layers.items():
        values = seen[path].flatten()
        values = values[:: max(1, values.numel() // _SAMPLE)]
        low, high = eight_bit_range(values.clamp_min(0) if path in rectified else values)
        layer.set_output_grid(low, high)
    return twin
