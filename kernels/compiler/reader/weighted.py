"""Convolutions, linear layers and batch-norms."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import fx

from ....errors import ModelError
from ..ir import BatchNorm, Convolution, Pair
from .graph import IMAGE, SEQUENCE, SIGNAL, VECTOR, Graph, Readers
from .nodes import argument, one_row, pair_of, source_of

__all__ = ["READERS"]


def _conv2d(graph: Graph, node: fx.Node) -> None:
    _convolution(graph, node, IMAGE, pair_of)


def _conv1d(graph: Graph, node: fx.Node) -> None:
    _convolution(graph, node, SIGNAL, one_row)


def _convolution(graph: Graph, node: fx.Node, kind: str, pair: Callable[[Any, int], Pair]) -> None:
    graph.expect(node, kind)
    weight = graph.array(argument(node, 1, "weight"))
    dilation = pair(argument(node, 5, "dilation", 1), 1)
    kernel = weight.shape[2:] if kind == IMAGE else (1, weight.shape[2])
    padding = argument(node, 4, "padding", 0)
    if isinstance(padding, str):
        same = tuple((size - 1) * gap // 2 for size, gap in zip(kernel, dilation, strict=True))
        padding = same if padding == "same" else (0, 0)
    graph.add(
        node,
        Convolution,
        source_of(node),
        weight=weight.reshape(*weight.shape[:2], *kernel),
        bias=graph.array(argument(node, 2, "bias"), len(weight)),
        stride=pair(argument(node, 3, "stride", 1), 1),
        padding=pair(padding, 0),
        dilation=dilation,
        groups=argument(node, 6, "groups", 1),
        blocks=graph.blocks_of(argument(node, 1, "weight")),
    )


def _linear(graph: Graph, node: fx.Node) -> None:
    weight = graph.array(argument(node, 1, "weight"))
    known = graph.known[source_of(node)]
    if known.kind not in (VECTOR, SEQUENCE):
        raise ModelError(f"a linear layer over the last axis of {known.kind} {known.shape} cannot be compiled")
    graph.add(
        node,
        Convolution,
        source_of(node),
        weight=weight[:, :, None, None],
        bias=graph.array(argument(node, 2, "bias"), len(weight)),
        blocks=graph.blocks_of(argument(node, 1, "weight")),
    )


def _batch_norm(graph: Graph, node: fx.Node) -> None:
    graph.expect(node, IMAGE, SIGNAL, VECTOR)
    if node.args[3] is None or node.args[5]:
        raise ModelError("a batch-norm is compiled with running statistics only")
    channels = graph.known[source_of(node)].shape[0]
    epsilon: Any = node.args[7]
    mean, variance = graph.array(node.args[3]), graph.array(node.args[4])
    gain = graph.array(node.args[1]) if node.args[1] is not None else np.ones(channels, np.float32)
    scale = gain.astype(np.float64) / np.sqrt(variance.astype(np.float64) + float(epsilon))
    shift = graph.array(node.args[2], channels) - mean * scale
    graph.add(node, BatchNorm, source_of(node), scale=scale.astype(np.float32), shift=shift.astype(np.float32))


READERS: Readers = {
    "conv2d": _conv2d,
    "conv1d": _conv1d,
    "linear": _linear,
    "batch_norm": _batch_norm,
}
