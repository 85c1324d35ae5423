"""Sums, products with constants, roundings and softmax."""

from functools import partial
from typing import Any

import numpy as np
from torch import fx

from ....errors import ModelError
from ..ir import Activation, Add, BatchNorm, Rounding, Shape, Softmax
from .graph import SEQUENCE, VECTOR, Graph, Readers
from .nodes import argument, source_of

__all__ = ["READERS"]


def _add(graph: Graph, node: fx.Node) -> None:
    operands: tuple[Any, ...] = node.args[:2]
    first, second = operands
    if node.kwargs.get("alpha", 1) != 1:
        raise ModelError("a sum with alpha cannot be compiled")
    if second in graph.known and first in graph.known:
        if _axes(graph, first) == _axes(graph, second):
            graph.add(node, Add, first, second)
            return
        raise ModelError("a sum of tensors of different shapes cannot be compiled")
    varying, fixed = (first, second) if first in graph.known else (second, first)
    _affine(graph, node, varying, np.float32(1), _per_channel(graph, varying, fixed))


def _axes(graph: Graph, node: Any) -> tuple[str, Shape]:
    return graph.known[node].kind, graph.known[node].shape


def _mul(graph: Graph, node: fx.Node) -> None:
    operands: tuple[Any, ...] = node.args[:2]
    first, second = operands
    if first in graph.known and second in graph.known:
        raise ModelError("a product of two tensors that both depend on the input cannot be compiled")
    varying, fixed = (first, second) if first in graph.known else (second, first)
    _affine(graph, node, varying, _per_channel(graph, varying, fixed), np.float32(0))


def _per_channel(graph: Graph, varying: Any, fixed: Any) -> Any:
    """A constant operand as one number a channel.

    Raises:
        ModelError: It has another shape.
    """
    if isinstance(fixed, int | float):
        return np.float32(fixed)
    value, known = graph.given(fixed), graph.known[varying]
    axis = {SEQUENCE: 2}.get(known.kind, 1)
    shape = [1] * len(varying.meta["val"].shape)
    shape[axis] = known.shape[0]
    aligned = value.view(*[1] * (len(shape) - value.ndim), *value.shape)
    if value.numel() != 1 and list(aligned.shape) != shape:
        raise ModelError(f"arithmetic with a constant of shape {tuple(value.shape)} cannot be compiled")
    return value.float().flatten().numpy()


def _affine(graph: Graph, node: fx.Node, source: Any, scale: Any, shift: Any) -> None:
    channels = graph.known[source].shape[0]
    scales, shifts = (np.broadcast_to(values, channels).copy() for values in (scale, shift))
    graph.add(node, BatchNorm, source, scale=scales, shift=shifts)


def _hardtanh(graph: Graph, node: fx.Node) -> None:
    if (argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)) != (0.0, 6.0):
        raise ModelError("a hardtanh is compiled as ReLU6 only")
    graph.add(node, Activation, source_of(node), function="relu6")


def _fake_quantize_per_tensor_affine(graph: Graph, node: fx.Node) -> None:
    scale, zero = (graph.number(value) for value in node.args[1:3])
    lowest, highest = node.args[-2:]
    node.meta["is_first_of_several"] = True
    graph.add(node, Rounding, source_of(node), scale=scale, zero_point=int(zero), lowest=lowest, highest=highest)


def _softmax(graph: Graph, node: fx.Node, is_log: bool) -> None:
    if graph.known[source_of(node)].kind != VECTOR:
        raise ModelError("a softmax over anything but a vector of scores cannot be compiled")
    graph.add(node, Softmax, source_of(node), is_log=is_log)


READERS: Readers = {
    "add": _add,
    "mul": _mul,
    "hardtanh": _hardtanh,
    "fake_quantize_per_tensor_affine": _fake_quantize_per_tensor_affine,
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": _fake_quantize_per_tensor_affine,
    "softmax": partial(_softmax, is_log=False),
    "log_softmax": partial(_softmax, is_log=True),
}
