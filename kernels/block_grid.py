"""How a weight matrix is cut into the blocks of block column-row (BCR) sparsity."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BlockGrid"]


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Blocks of a matrix, row by row; those at the lower and the right edge may be smaller.

    Attributes:
        rows: Of the matrix.
        columns: Of the matrix.
        block_rows: Of a block, at least 1.
        block_columns: Of a block, at least 1.
    """

    rows: int
    columns: int
    block_rows: int
    block_columns: int

    @property
    def down(self) -> int:
        """Blocks above each other."""
        return -(-self.rows // self.block_rows)

    @property
    def across(self) -> int:
        """Blocks beside each other."""
        return -(-self.columns // self.block_columns)

    @property
    def count(self) -> int:
        """All blocks."""
        return self.down * self.across

    def heights(self) -> Tensor:
        """Rows of each block, int64, shape (count,)."""
        bands = torch.full((self.down,), self.block_rows)
        bands[-1] = self.rows - self.block_rows * (self.down - 1)
        return bands.repeat_interleave(self.across)

    def blocks(self, matrix: Tensor) -> Tensor:
        """The blocks of a matrix, zeros where one is smaller.

        Args:
            matrix: Shape (rows, columns).

        Returns:
            Shape (count, block_rows, block_columns).
        """
        below = self.down * self.block_rows - self.rows
        beside = self.across * self.block_columns - self.columns
        padded = torch.nn.functional.pad(matrix, (0, beside, 0, below))
        cut = padded.view(self.down, self.block_rows, self.across, self.block_columns)
        return cut.transpose(1, 2).reshape(self.count, self.block_rows, self.block_columns)

    def matrix(self, blocks: Tensor) -> Tensor:
        """The matrix (rows, columns) that `blocks` would cut into these."""
        cut = blocks.view(self.down, self.across, self.block_rows, self.block_columns)
        whole = cut.transpose(1, 2).reshape(self.down * self.block_rows, self.across * self.block_columns)
        return whole[: self.rows, : self.columns]
