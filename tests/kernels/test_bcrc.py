"""Compact storage of sparse matrices: the six arrays by hand, and exact round trips."""

import numpy as np
import pytest
from espalier.kernels.bcrc import Bcrc
from espalier.kernels.block_grid import BlockGrid
from espalier.kernels.blocks import Blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.pruned import blocks_of, mask_of

Floats = NDArray[np.float32]


def _matrix(rows: int, columns: int, seed: int, density: float = 1.0) -> Floats:
    chance = np.random.default_rng(seed)
    values = chance.uniform(0.5, 1.5, (rows, columns)) * chance.choice([-1, 1], (rows, columns))
    return (values * (chance.random((rows, columns)) < density)).astype(np.float32)


def _lists(stored: Bcrc) -> dict[str, list[float]]:
    names = ("reorder", "row_offset", "occurrence", "column_stride", "compact_column", "weights")
    return {name: getattr(stored, name).tolist() for name in names}


def test_the_six_arrays_of_a_matrix_by_hand() -> None:
    """Rows 0 and 3 keep columns 1 and 2, rows 1 and 4 keep 0 and 3, row 2 keeps nothing."""
    matrix = np.array([[0, 1, 2, 0], [3, 0, 0, 4], [0, 0, 0, 0], [0, 5, 6, 0], [7, 0, 0, 8]], np.float32)
    assert _lists(Bcrc.of_matrix(matrix)) == {
        "reorder": [0, 3, 1, 4],
        "row_offset": [0, 2, 4, 6, 8],
        "occurrence": [0, 2, 4],
        "column_stride": [0, 2, 4],
        "compact_column": [1, 2, 0, 3],
        "weights": [1, 2, 5, 6, 3, 4, 7, 8],
    }


def test_a_row_of_several_blocks_stands_in_several_groups_by_hand() -> None:
    """Two blocks side by side keep rows 0 and 1, and rows 1 and 2."""
    matrix = np.array([[1, 0, 0, 0], [2, 0, 3, 4], [0, 0, 5, 6]], np.float32)
    rows = np.array([[True, True, False], [False, True, True]])
    columns = np.array([[True, False], [True, True]])
    stored = Bcrc.of_matrix(matrix, Blocks(BlockGrid(3, 4, 3, 2), rows, columns, np.arange(4)))
    assert _lists(stored) == {
        "reorder": [0, 1, 1, 2],
        "row_offset": [0, 1, 2, 4, 6],
        "occurrence": [0, 2, 4],
        "column_stride": [0, 1, 3],
        "compact_column": [0, 2, 3],
        "weights": [1, 2, 3, 4, 5, 6],
    }
    assert np.array_equal(stored.to_matrix(), matrix)


def test_blocks_of_equal_rows_become_one_group() -> None:
    grid, rows = BlockGrid(4, 6, 4, 2), np.tile([True, False, True, False], (3, 1))
    columns = np.array([[True, False], [True, True], [False, True]])
    blocks = Blocks(grid, rows, columns, np.array([5, 4, 3, 2, 1, 0]))
    matrix = _matrix(4, 6, 0) * mask_of(blocks).numpy()
    groups = Bcrc.of_matrix(matrix, blocks).groups()
    assert [(rows.tolist(), columns.tolist()) for rows, columns, _ in groups] == [([0, 2], [0, 2, 3, 5])]
    assert np.array_equal(groups[0][2], matrix[np.ix_([0, 2], [0, 2, 3, 5])])


def test_rows_that_are_left_over_are_taken_together() -> None:
    """Of five equal rows four fill a kernel; the fifth shares one with rows of other columns."""
    matrix = np.zeros((7, 5), np.float32)
    matrix[[0, 1, 2, 4, 5], :2] = 1
    matrix[3, 4], matrix[6, 3] = 2, 3
    found = [(rows.tolist(), columns.tolist()) for rows, columns, _ in Bcrc.of_matrix(matrix, None, 4).groups()]
    assert found == [([0, 1, 2, 4], [0, 1]), ([3, 5, 6], [0, 1, 3, 4])]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 9))
def test_any_matrix_comes_back(rows: int, columns: int, seed: int, density: float, multiple: int) -> None:
    matrix = _matrix(rows, columns, seed, density)
    stored = Bcrc.of_matrix(matrix, None, multiple)
    assert np.array_equal(stored.to_matrix(), matrix)
    assert len(set(stored.reorder.tolist())) == len(stored.reorder), "no row is in two groups"
    assert multiple > 1 or stored.kept == np.count_nonzero(matrix)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 30),
    st.tuples(st.integers(1, 25), st.integers(1, 35)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_any_block_pruned_matrix_comes_back(
    rows: int, columns: int, block: tuple[int, int], kept: tuple[float, float], seed: int, is_reordered: bool
) -> None:
    blocks = blocks_of((rows, columns), block, kept, seed, is_reordered)
    matrix = _matrix(rows, columns, seed) * mask_of(blocks).numpy()
    stored = Bcrc.of_matrix(matrix, blocks)
    assert np.array_equal(stored.to_matrix(), matrix)
    assert stored.kept == np.count_nonzero(matrix), "no zero is stored"


@pytest.mark.parametrize(
    "blocks", [None, Blocks(BlockGrid(3, 4, 2, 2), np.zeros((4, 2), bool), np.zeros((4, 2), bool), np.arange(4))]
)
def test_a_matrix_of_zeros_stores_nothing(blocks: Blocks | None) -> None:
    stored = Bcrc.of_matrix(np.zeros((3, 4), np.float32), blocks)
    assert (stored.kept, stored.groups(), stored.shape) == (0, [], (3, 4))
    assert not stored.to_matrix().any()
