"""How much work operators are, by kind: what is counted before a device weighs it."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...graph.opspec import FREE_KINDS, OpSpec

__all__ = ["QUANTITIES", "WorkTable", "operator_class", "operator_work", "work_kind", "work_table"]

#: What is counted of each operator: how many there are, 10^6 multiply-accumulates, 10^6 bytes of activations read, as
#: many written, 10^6 bytes of weights. No larger operator has less of any.
QUANTITIES = ("count", "mmacs", "read_mb", "written_mb", "weight_mb")

_ELEMENTWISE = ("activation", "batch_norm", "elementwise")

#: Products of matrices, whose sizes can be compared.
_DENSE = ("conv2d", "conv_transpose2d", "linear", "matmul", "gru", "lstm")

#: Kind of work -> sums of `QUANTITIES`, shape (5,).
WorkTable = dict[str, NDArray[np.float64]]


@lru_cache(maxsize=65536)
def work_kind(op: OpSpec) -> str:
    """The operators that share an efficiency.

    Convolutions differ by what an engine has separate code for: "depthwise_3x3", "grouped_1x1", "conv2d_1x1",
    "conv2d_3x3"; kernels that are not square count by their larger side. What passes over a tensor once is
    "elementwise"; other operators are their kind.
    """
    if op.kind in _ELEMENTWISE:
        return "elementwise"
    if op.kind not in ("conv2d", "conv_transpose2d"):
        return op.kind
    side = max(op.kernel)
    if op.groups == 1:
        return f"{op.kind}_{side}x{side}"
    is_depthwise = op.groups == op.input_shape[0]
    return f"{'depthwise' if is_depthwise else 'grouped'}_{side}x{side}"


def operator_class(op: OpSpec) -> str:
    """The kinds of work whose sizes can be compared with each other, as a curve through them does.

    Returns:
        "depthwise" for convolutions of one channel each, "dense" for other products of matrices, else the kind.
    """
    if op.kind == "conv2d" and op.groups == op.input_shape[0] > 1:
        return "depthwise"
    return "dense" if op.kind in _DENSE else op.kind


@lru_cache(maxsize=65536)
def operator_work(op: OpSpec) -> tuple[float, float, float, float, float]:
    """`QUANTITIES` of one operator; zeros for operators that take no time."""
    if op.kind in FREE_KINDS:
        return (0.0, 0.0, 0.0, 0.0, 0.0)
    return (1.0, 1e-6 * op.macs, 1e-6 * op.input_bytes, 1e-6 * op.output_bytes, 1e-6 * op.weight_bytes)


def work_table(ops: Sequence[OpSpec]) -> WorkTable:
    """The sums of `QUANTITIES` over operators, by kind."""
    table: WorkTable = {}
    for op, count in Counter(ops).items():
        kind = work_kind(op)
        table[kind] = table.get(kind, np.zeros(len(QUANTITIES))) + count * np.array(operator_work(op))
    return table
