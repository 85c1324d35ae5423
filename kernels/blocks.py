"""What block column-row pruning keeps of a matrix."""

from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from .block_grid import BlockGrid

__all__ = ["BlockPruned", "Blocks", "is_block_pruned"]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The kept rectangle of each block.

    Attributes:
        grid: How the matrix is cut.
        rows: Kept rows of each block, bool, shape (blocks, block rows).
        columns: Kept columns of each block, bool, shape (blocks, block columns).
        order: Which of the matrix's columns stands at each place of the grid, shape (columns,).
    """

    grid: BlockGrid
    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]
    order: NDArray[np.int64]

    def rectangles(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each block that keeps something, the rows and the columns of the matrix."""
        found = []
        for block in range(self.grid.count):
            down, across = divmod(block, self.grid.across)
            rows = np.flatnonzero(self.rows[block]) + down * self.grid.block_rows
            places = np.flatnonzero(self.columns[block]) + across * self.grid.block_columns
            rows, places = rows[rows < self.grid.rows], places[places < self.grid.columns]
            if len(rows) and len(places):
                found.append((rows, self.order[places]))
        return found


@runtime_checkable
class BlockPruned(Protocol):
    """A layer some of whose parameters are block-pruned matrices."""

    def kept_blocks(self) -> dict[str, Blocks]:
        """By the parameter's name, such as "weight" or "weight_hh_l0"."""


def is_block_pruned(layer: nn.Module) -> TypeGuard[BlockPruned]:
    """Whether the class of a layer has the method; a user's layer may hold layers of that name."""
    return issubclass(type(layer), BlockPruned)
