"""The NAS-Bench-201 space on CIFAR-10 (Dong and Yang 2020, arXiv 2001.00326).

A cell of four nodes and six edges with five candidates each, stacked five times in each of three stages.
"""

import re
from dataclasses import dataclass, field
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
_CELLS, _CLASSES = 5, 10
_PATTERN = re.compile(
    r"\+".join(r"\|" + r"\|".join(rf"(\w+)~{start}" for start in range(count)) + r"\|" for count in (1, 2, 3))
)


@dataclass(frozen=True)
class Nasbench201Space:
    """Networks written as `|a~0|+|b~0|c~1|+|d~0|e~1|f~2|`.

    Decisions are the six edges as they are written ("edge 0-1") and as an engine executes them that removes dead code
    ("live 0-1").

    What such engines remove was read off the measurements of `pixel3` and `raspi4`: all of a network in which no path
    leads from a cell's input to its output, and a node that sums two edges and is read by none, with all that leads
    only there. A lone dead edge is executed, and so are edges that nothing arrives at. Engines that execute one
    operator after the other remove nothing.

    Attributes:
        removes_dead_code: Whether `Architecture.ops` leaves out what such an engine removes.
    """

    removes_dead_code: bool = False
    name: str = field(default="nasbench201", init=False)

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
        written = match.groups()
        live = _live(written)
        decisions: dict[str, str | float] = {
            f"{view} {start}-{end}": operation
            for view, cell in (("edge", written), ("live", live))
            for (start, end), operation in zip(EDGES, cell, strict=True)
        }
        if not self.removes_dead_code:
            return Architecture(label, decisions, _network(written))
        return Architecture(label, decisions, _network(live) if _is_connected(written) else ())


def _is_connected(cell: tuple[str, ...]) -> bool:
    """Whether a path leads from a cell's input to its output."""
    reached = {0}
    for (start, end), operation in zip(EDGES, cell, strict=True):  # sorted by end: a node is known before it is left
        if operation != "none" and start in reached:
            reached.add(end)
    return EDGES[-1][1] in reached


def _live(cell: tuple[str, ...]) -> tuple[str, ...]:
    """The edges that are left when dead code is removed."""
    if not _is_connected(cell):
        return ("none",) * len(cell)
    into_first, into_second, between, _, first_out, second_out = (operation != "none" for operation in cell)
    if second_out or not (into_second and between):
        return cell
    return (cell[0] if into_first and first_out else "none", "none", "none", *cell[3:])


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
        OpSpec("batch_norm", last, last, bias=True),
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


@lru_cache(maxsize=4096)
def _cell(cell: tuple[str, ...], size: int, channels: int) -> tuple[OpSpec, ...]:
    present = [index for index, operation in enumerate(cell) if operation != "none"]
    shape = (channels, size, size)
    ops = [op for index in present for op in _operation(cell[index], size, channels)]
    arriving = [EDGES[index][1] for index in present]
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
