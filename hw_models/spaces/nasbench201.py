"""The NAS-Bench-201 space on CIFAR-10 (Dong and Yang 2020, arXiv 2001.00326).

A cell of four nodes and six edges with five candidates each, stacked five times in each of three stages.
"""

import re
from functools import lru_cache

from ...errors import FormatError
from ...graph.opspec import OpSpec
from .architecture import Architecture, convolution

__all__ = ["EDGES", "OPERATIONS", "Nasbench201Space"]

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

#: (from node, to node) in the order of the string.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))

#: Image size and channels of each stage.
_STAGES = ((32, 16), (16, 32), (8, 64))
_CELLS, _CLASSES, _OUTPUT_NODE = 5, 10, 3
_PATTERN = re.compile(
    r"\+".join(r"\|" + r"\|".join(rf"(\w+)~{start}" for start in range(count)) + r"\|" for count in (1, 2, 3))
)


class Nasbench201Space:
    """Networks written as `|a~0|+|b~0|c~1|+|d~0|e~1|f~2|`.

    The operators are what an engine executes that drops dead code: edges that nothing arrives at or whose result
    nobody reads take no time.
    """

    name = "nasbench201"

    def parse(self, label: str) -> Architecture:
        """The network that a string stands for.

        Raises:
            FormatError: The string is no cell of this space.
        """
        match = _PATTERN.fullmatch(label)
        if match is None or any(operation not in OPERATIONS for operation in match.groups()):
            raise FormatError(
                "a NAS-Bench-201 architecture looks like |a~0|+|b~0|c~1|+|d~0|e~1|f~2| with each letter one of "
                f"{', '.join(OPERATIONS)}; got {label[:120]!r}"
            )
        cell = match.groups()
        decisions = {f"{start}-{end}": operation for (start, end), operation in zip(EDGES, cell, strict=True)}
        return Architecture(label, decisions, _network(cell))


def _network(cell: tuple[str, ...]) -> tuple[OpSpec, ...]:
    size, channels = _STAGES[0]
    ops = [convolution(size, 3, channels, 3)]
    for index, (size, channels) in enumerate(_STAGES):
        if index:
            ops += _reduction(2 * size, channels // 2)
        ops += _CELLS * _cell(cell, size, channels)
    last = (channels, size, size)
    return (
        *ops,
        OpSpec("batch_norm", last, last),
        OpSpec("activation", last, last, activation="relu"),
        OpSpec("global_avg_pool2d", last, (channels, 1, 1)),
        OpSpec("linear", (channels,), (_CLASSES,), bias=True),
    )


@lru_cache(maxsize=8)
def _reduction(size: int, channels: int) -> tuple[OpSpec, ...]:
    """The residual block that halves the image: two 3x3 convolutions beside a pooled 1x1 convolution."""
    half, twice = size // 2, 2 * channels
    source, middle, result = (channels, size, size), (channels, half, half), (twice, half, half)
    return (
        OpSpec("activation", source, source, activation="relu"),
        convolution(size, channels, twice, 3, 2, activation="relu"),
        convolution(half, twice, twice, 3),
        OpSpec("avg_pool2d", source, middle, (2, 2), (2, 2)),
        convolution(half, channels, twice, 1).replace(bias=False),
        OpSpec("add", result, result, n_inputs=2),
    )


def _live_edges(cell: tuple[str, ...]) -> list[int]:
    """Indices of the edges on a path from the cell's input to its output."""
    present = [index for index, operation in enumerate(cell) if operation != "none"]
    reached, needed = {0}, {_OUTPUT_NODE}
    for index in present:  # EDGES is sorted by end, so that a node is known before edges leave it
        if EDGES[index][0] in reached:
            reached.add(EDGES[index][1])
    for index in reversed(present):
        if EDGES[index][1] in needed:
            needed.add(EDGES[index][0])
    return [index for index in present if EDGES[index][0] in reached and EDGES[index][1] in needed]


@lru_cache(maxsize=4096)
def _cell(cell: tuple[str, ...], size: int, channels: int) -> tuple[OpSpec, ...]:
    live = _live_edges(cell)
    shape = (channels, size, size)
    ops = [op for index in live for op in _operation(cell[index], size, channels)]
    arriving = [EDGES[index][1] for index in live]
    additions = sum(arriving.count(node) - 1 for node in set(arriving))
    return (*ops, *[OpSpec("add", shape, shape, n_inputs=2)] * additions)


@lru_cache(maxsize=64)
def _operation(operation: str, size: int, channels: int) -> tuple[OpSpec, ...]:
    shape = (channels, size, size)
    if operation == "skip_connect":
        return ()
    if operation == "avg_pool_3x3":
        return (OpSpec("avg_pool2d", shape, shape, (3, 3), padding=(1, 1)),)
    kernel = 1 if operation == "nor_conv_1x1" else 3
    return (OpSpec("activation", shape, shape, activation="relu"), convolution(size, channels, channels, kernel))
