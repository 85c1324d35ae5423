"""Pools, and means over all positions."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import fx

from ....errors import ModelError
from ..ir import GlobalPool, Pair, Pool
from .graph import IMAGE, SEQUENCE, SIGNAL, VECTOR, Graph, Readers, image_shape
from .nodes import argument, one_row, pair_of, shape_of, source_of

__all__ = ["READERS"]

_Pairs = Callable[[Any, int], Pair]


def _max_pool(graph: Graph, node: fx.Node, pair: _Pairs) -> None:
    if {*pair(argument(node, 4, "dilation", 1), 1)} != {1}:
        raise ModelError("a max-pool with dilation cannot be compiled")
    _pool(graph, node, pair, is_maximum=True, counts_padding=True)


def _avg_pool2d(graph: Graph, node: fx.Node) -> None:
    if argument(node, 6, "divisor_override") is not None:
        raise ModelError("an average pool with divisor_override cannot be compiled")
    _pool(graph, node, pair_of, is_maximum=False, counts_padding=argument(node, 5, "count_include_pad", True))


def _avg_pool1d(graph: Graph, node: fx.Node) -> None:
    _pool(graph, node, one_row, is_maximum=False, counts_padding=argument(node, 5, "count_include_pad", True))


def _pool(
    graph: Graph,
    node: fx.Node,
    pair: _Pairs,
    is_maximum: bool,
    counts_padding: bool,
) -> None:
    graph.expect(node, IMAGE, SIGNAL)
    kernel = pair(argument(node, 1, "kernel_size"), 1)
    stride = argument(node, 2, "stride", None)
    graph.add(
        node,
        Pool,
        source_of(node),
        is_maximum=is_maximum,
        counts_padding=counts_padding,
        kernel=kernel,
        stride=pair(stride, 1) if stride else kernel,
        padding=pair(argument(node, 3, "padding", 0), 0),
    )


def _adaptive_pool(graph: Graph, node: fx.Node, is_maximum: bool) -> None:
    graph.expect(node, IMAGE, SIGNAL)
    known = graph.known[source_of(node)]
    shape = image_shape(shape_of(node)[1:], known.kind)
    node.meta["is_first_of_several"] = is_maximum
    if shape[1:] == (1, 1):
        graph.add(node, GlobalPool, source_of(node), is_maximum=is_maximum)
        return
    if any(size % out for size, out in zip(known.shape[1:], shape[1:], strict=True)):
        raise ModelError(f"an adaptive pool from {known.shape[1:]} to {shape[1:]} has windows of several sizes")
    kernel = (known.shape[1] // shape[1], known.shape[2] // shape[2])
    graph.add(node, Pool, source_of(node), is_maximum=is_maximum, kernel=kernel, stride=kernel)


def _mean(graph: Graph, node: fx.Node) -> None:
    known = graph.known[source_of(node)]
    n_axes = len(shape_of(node.all_input_nodes[0]))
    axes = {axis % n_axes for axis in argument(node, 1, "dim") or range(n_axes)}
    expected = {IMAGE: {2, 3}, SIGNAL: {2}, SEQUENCE: {1}, VECTOR: set()}[known.kind]
    if axes != expected:
        raise ModelError(f"a mean over the axes {sorted(axes)} of {known.kind} {known.shape} cannot be compiled")
    keeps = len(node.meta["val"].shape) > 2
    graph.add(node, GlobalPool, source_of(node), kind=known.kind if keeps else VECTOR)


READERS: Readers = {
    "max_pool2d": partial(_max_pool, pair=pair_of),
    "max_pool1d": partial(_max_pool, pair=one_row),
    "avg_pool2d": _avg_pool2d,
    "avg_pool1d": _avg_pool1d,
    "adaptive_avg_pool2d": partial(_adaptive_pool, is_maximum=False),
    "adaptive_avg_pool1d": partial(_adaptive_pool, is_maximum=False),
    "adaptive_max_pool2d": partial(_adaptive_pool, is_maximum=True),
    "mean": _mean,
}
