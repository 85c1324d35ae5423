"""A sparse matrix cut into what a kernel computes at once, and packed in the order in which it is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...bcrc import Bcrc
from ..ir import Convolution, Floats

__all__ = ["Packed", "Panel", "dense_matrix", "live_rows", "pack", "panels_of", "split_columns", "stored_matrix"]

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Panel:
    """Rows that share columns.

    Attributes:
        rows: Of the matrix, shape (n,).
        columns: Of the matrix, shape (m,).
        weights: Shape (n, m).
    """

    rows: Integers
    columns: Integers
    weights: Floats


@dataclass
class Packed:
    """Panels as the emitted code reads them.

    Attributes:
        lines: Of each panel its rows (padded to whole vectors, in vectors, where rows are vectors), columns, where its
            columns, weights, rows and biases begin, its rows, and whether each vector of them is whole and adjacent.
        rows: The rows of all panels.
        offsets: Of the columns of all panels; equal lists once.
        weights: Column by column of each panel.
        biases: Of each row.
        scales: Of each row what its products are multiplied by.
        costs: What the panels before each cost together, and all.
    """

    lines: list[tuple[int, ...]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    weights: list[Floats] = field(default_factory=list)
    biases: list[Floats] = field(default_factory=list)
    scales: list[Floats] = field(default_factory=list)
    costs: list[int] = field(default_factory=lambda: [0])
    _starts: dict[bytes, int] = field(default_factory=dict)
    _n_weights: int = 0
    _n_biases: int = 0

    def add(self, panel: Panel, bias: Floats, scale: Floats, offset: Callable[[int], int], vector: int) -> None:
        """Add a panel.

        Args:
            panel: Its rows are filled up to a multiple of `vector`.
            bias: Of its rows.
            scale: Of its rows.
            offset: From a column to its inputs' offset.
            vector: Rows of a vector; 1 where rows are no vectors.
        """
        key = panel.columns.tobytes()
        if key not in self._starts:
            self._starts[key] = len(self.offsets)
            self.offsets += [offset(int(column)) for column in panel.columns]
        height = -(-len(panel.rows) // vector) * vector
        is_adjacent = height == len(panel.rows) and bool((np.diff(panel.rows.reshape(-1, vector)) == 1).all())
        places = (self._starts[key], self._n_weights, len(self.rows), self._n_biases)
        self.lines.append((height // vector, len(panel.columns), *places, len(panel.rows), is_adjacent))
        self.rows += panel.rows.tolist()
        self.weights.append(_filled(panel.weights, height).T.ravel())
        self.biases.append(_filled(bias[:, None], height).ravel())
        self.scales.append(_filled(scale[:, None], height).ravel())
        self._n_weights += height * len(panel.columns)
        self._n_biases += height
        self.costs.append(self.costs[-1] + max(1, height * len(panel.columns)))

    def all_weights(self) -> Floats:
        """The weights of all panels."""
        return np.concatenate([np.zeros(0, np.float32), *self.weights])

    def all_biases(self) -> Floats:
        """The biases of all panels."""
        return np.concatenate([np.zeros(0, np.float32), *self.biases])

    def all_scales(self) -> Floats:
        """The scales of all panels."""
        return np.concatenate([np.zeros(0, np.float32), *self.scales])

    @property
    def heights(self) -> list[int]:
        """Sizes of panels, each once."""
        return sorted({line[0] for line in self.lines})


def _filled(values: Floats, rows: int) -> Floats:
    return np.concatenate([values, np.zeros((rows - len(values), values.shape[1]), np.float32)])


def stored_matrix(layer: Convolution, row_multiple: int) -> Bcrc:
    """A convolution's weights over all input channels in compact storage."""
    return Bcrc.of_matrix(_whole(layer), layer.blocks if layer.groups == 1 else None, row_multiple)


def dense_matrix(layer: Convolution) -> Bcrc:
    """The same with all columns in all rows that somebody reads."""
    matrix = _whole(layer)
    return Bcrc.of_groups(matrix, [(live_rows(layer), np.arange(matrix.shape[1]))])


def _whole(layer: Convolution) -> Floats:
    if layer.groups == 1:
        return layer.matrix
    outputs, per_group = layer.weight.shape[:2]
    positions = layer.kernel[0] * layer.kernel[1]
    whole = np.zeros((outputs, layer.groups * per_group * positions), np.float32)
    for group in range(layer.groups):
        rows = slice(group * outputs // layer.groups, (group + 1) * outputs // layer.groups)
        columns = slice(group * per_group * positions, (group + 1) * per_group * positions)
        whole[rows, columns] = layer.matrix[rows]
    return whole


def live_rows(layer: Convolution) -> Integers:
    """The outputs that somebody reads."""
    return np.arange(len(layer.weight)) if layer.kept_rows is None else np.flatnonzero(layer.kept_rows)


def panels_of(stored: Bcrc, most_rows: int, live: Integers) -> tuple[list[Panel], bool]:
    """The panels of at most so many rows, and whether a row is in several of them.

    Where none is, rows that keep nothing but are read have panels without columns.
    """
    groups: Sequence[tuple[Integers, Integers, Floats]] = stored.groups()
    is_added = len(set(stored.reorder.tolist())) < len(stored.reorder)
    missing = np.setdiff1d(live, stored.reorder)
    if not is_added and len(missing):
        groups = [*groups, (missing, np.zeros(0, np.int64), np.zeros((len(missing), 0), np.float32))]
    panels = []
    for rows, columns, weights in groups:
        for first in range(0, len(rows), most_rows):
            some = slice(first, first + most_rows)
            panels.append(Panel(rows[some], columns, weights[some]))
    return panels, is_added


def split_columns(panels: Sequence[Panel], columns: int) -> list[list[Panel]]:
    """The panels of each run of so many columns of the matrix, all panels in each; one run where `columns` is 0."""
    last = max((int(panel.columns[-1]) for panel in panels if len(panel.columns)), default=0)
    if not 0 < columns <= last:
        return [list(panels)]
    return [[_between(panel, first, first + columns) for panel in panels] for first in range(0, last + 1, columns)]


def _between(panel: Panel, first: int, end: int) -> Panel:
    some = (panel.columns >= first) & (panel.columns < end)
    return Panel(panel.rows, panel.columns[some], panel.weights[:, some])


def pack(
    panels: Sequence[Panel],
    bias: Floats,
    offset: Callable[[int], int],
    vector: int = 1,
    scale: Floats | None = None,
) -> Packed:
    """Panels in order.

    Args:
        panels: Of one matrix.
        bias: Of all its rows.
        offset: From a column to its inputs' offset.
        vector: Rows of a vector; 1 where rows are no vectors.
        scale: Of all rows; None for 1.
    """
    packed = Packed()
    scale = np.ones_like(bias) if scale is None else scale
    for panel in panels:
        packed.add(panel, bias[panel.rows], scale[panel.rows], offset, vector)
    return packed
