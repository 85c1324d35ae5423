"""Block column-row compact (BCRC) storage of a sparse matrix: rows with the same columns share a list of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .blocks import Blocks

__all__ = ["Bcrc"]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Bcrc:
    """A matrix as groups of rows, each a dense matrix of the group's rows and columns.

    Niu, Li et al. 2021, GRIM (arXiv 2108.11033): matrix reorder and the six arrays of its compact storage. A row whose
    kept columns differ from block to block stands in several groups; its product is the sum of theirs.

    Attributes:
        shape: (rows, columns) of the matrix.
        reorder: The matrix's row at each place, shape (places,).
        row_offset: Where the weights of each place begin, and the end of the last, shape (places + 1,).
        occurrence: The first place of each group, and the end of the last, shape (groups + 1,).
        column_stride: Where the columns of each group begin, and the end of the last, shape (groups + 1,).
        compact_column: Columns of all groups, once a group.
        weights: Place by place.
    """

    shape: tuple[int, int]
    reorder: Integers
    row_offset: Integers
    occurrence: Integers
    column_stride: Integers
    compact_column: Integers
    weights: Floats

    @classmethod
    def of_matrix(cls, matrix: Floats, blocks: Blocks | None = None, row_multiple: int = 1) -> "Bcrc":
        """Store what is not zero of a matrix; where its zeros have blocks, what these keep.

        Rows with the same columns become neighbours. Without blocks, rows that are left over are taken together in
        order, `row_multiple` at a time, with the columns that any of them keeps.

        Args:
            matrix: Shape (rows, columns).
            blocks: What block pruning kept of it.
            row_multiple: Rows that a kernel takes at once.
        """
        groups = _block_groups(matrix, blocks) if blocks is not None else _equal_groups(matrix, row_multiple)
        return cls.of_groups(matrix, groups)

    @classmethod
    def of_groups(cls, matrix: Floats, groups: Sequence[tuple[Integers, Integers]]) -> "Bcrc":
        """Store the rectangles of a matrix that rows and columns name."""
        counts = [(len(rows), len(columns)) for rows, columns in groups]
        per_row = np.concatenate([np.full(n, m) for n, m in counts]) if counts else np.zeros(0, np.int64)
        weights = [matrix[np.ix_(rows, columns)].ravel() for rows, columns in groups]
        return cls(
            (matrix.shape[0], matrix.shape[1]),
            np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in groups)]),
            _starts(per_row),
            _starts([n for n, _ in counts]),
            _starts([m for _, m in counts]),
            np.concatenate([np.zeros(0, np.int64), *(columns for _, columns in groups)]),
            np.concatenate([np.zeros(0, np.float32), *weights]),
        )

    def groups(self) -> list[tuple[Integers, Integers, Floats]]:
        """Of each group its rows, its columns, and its weights (rows, columns)."""
        found = []
        for first, last, start, end in zip(
            self.occurrence[:-1], self.occurrence[1:], self.column_stride[:-1], self.column_stride[1:], strict=True
        ):
            weights = self.weights[self.row_offset[first] : self.row_offset[last]]
            found.append(
                (self.reorder[first:last], self.compact_column[start:end], weights.reshape(last - first, end - start))
            )
        return found

    def to_matrix(self) -> Floats:
        """The matrix again, zeros where nothing was kept."""
        matrix = np.zeros(self.shape, np.float32)
        for rows, columns, weights in self.groups():
            matrix[np.ix_(rows, columns)] = weights
        return matrix

    @property
    def kept(self) -> int:
        """Stored weights."""
        return len(self.weights)


def _starts(counts: Sequence[int] | Integers) -> Integers:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _block_groups(matrix: Floats, blocks: Blocks) -> list[tuple[Integers, Integers]]:
    """The kept rectangles, those of equal rows side by side as one; a row that is zero everywhere is left out."""
    is_zero: NDArray[np.bool_] = np.logical_not(matrix.any(1))
    columns_of: dict[tuple[int, ...], list[Integers]] = {}
    for rows, columns in blocks.rectangles():
        left = tuple(rows[~is_zero[rows]].tolist())
        if left:
            columns_of.setdefault(left, []).append(columns)
    return [(np.array(rows), np.sort(np.concatenate(columns))) for rows, columns in columns_of.items()]


def _equal_groups(matrix: Floats, row_multiple: int) -> list[tuple[Integers, Integers]]:
    """Rows with equal columns where they fill kernels at least by half, then the other rows in order."""
    mask = np.asarray(matrix, bool)
    by_columns: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(np.logical_or.reduce(np.asarray(mask), axis=1)).tolist():
        by_columns.setdefault(np.packbits(mask[row]).tobytes(), []).append(row)
    groups, others = [], []
    for rows in by_columns.values():
        # A group less than half full is dearer than to share a kernel with others.
        whole = len(rows) if len(rows) % row_multiple >= row_multiple / 2 else len(rows) // row_multiple * row_multiple
        if whole:
            groups.append((np.array(rows[:whole]), np.flatnonzero(mask[rows[0]])))
        others += rows[whole:]
    others.sort()
    for first in range(0, len(others), row_multiple):
        some = np.array(others[first : first + row_multiple])
        groups.append((some, np.flatnonzero(mask[some].any(0))))
    return groups
