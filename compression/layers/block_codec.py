"""How a block column-row sparse weight is stored: a bit for each row and column of each block, and what is kept."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...errors import FormatError
from ...graph.sparsity import BlockSparsity
from ...kernels.block_grid import BlockGrid
from ...kernels.blocks import Blocks
from .codecs import Codec
from .symbols import pack_bits, packed_length, unpack_bits

__all__ = ["BlockSparseCodec", "joint_sparsity"]


class BlockSparseCodec(Codec):
    """A dense rectangle of each block of the matrix (rows, row length), whose columns may be in another order.

    Args:
        shape: Of the tensor.
        block: Rows and columns of a block.
        kept: How many elements are kept.
        is_reordered: Whether the columns are in another order than the tensor's.
    """

    row_bits: Tensor
    column_bits: Tensor
    order: Tensor

    def __init__(
        self, shape: list[int] | tuple[int, ...], block: list[int] | tuple[int, int], kept: int, is_reordered: bool
    ) -> None:
        super().__init__(shape)
        self.block = int(block[0]), int(block[1])
        self.is_reordered = is_reordered
        self._kept = kept
        self._grid = BlockGrid(self.shape[0], self.row_length, *self.block)
        self._hold("row_bits", packed_length(self._grid.count * self.block[0], 1))
        self._hold("column_bits", packed_length(self._grid.count * self.block[1], 1))
        length = self.row_length if is_reordered else 0
        self.register_buffer("order", torch.zeros(length, dtype=torch.int32))
        self.values = nn.Parameter(torch.zeros(kept))

    @classmethod
    def store(
        cls,
        matrix: Tensor,
        shape: tuple[int, ...],
        block: tuple[int, int],
        rows: Tensor,
        columns: Tensor,
        order: Tensor,
    ) -> "BlockSparseCodec":
        """Keep the rectangles.

        Args:
            matrix: Columns in the blocks' order, shape (rows, row length).
            shape: Of the tensor.
            block: Rows and columns of a block.
            rows: Kept rows of each block, bool, shape (blocks, block rows).
            columns: Kept columns of each block, bool, shape (blocks, block columns).
            order: Which of the tensor's columns stands at each place, shape (row length,).
        """
        is_reordered = not torch.equal(order, torch.arange(len(order)))
        codec = cls(shape, block, int((rows.sum(1) * columns.sum(1)).sum()), is_reordered)
        codec.row_bits.copy_(pack_bits(rows.flatten(), 1))
        codec.column_bits.copy_(pack_bits(columns.flatten(), 1))
        if is_reordered:
            codec.order.copy_(order)
        codec.values.data.copy_(matrix.flatten()[codec._places()])
        return codec

    @override
    def config(self) -> dict[str, Any]:
        own = {"block": list(self.block), "kept": self._kept, "is_reordered": self.is_reordered}
        return {**super().config(), **own}

    @property
    @override
    def n_parameters(self) -> int:
        return self._kept

    def blocks(self) -> Blocks:
        """What of each block is kept, for engines that skip the rest."""
        rows, columns = (bits.numpy() for bits in self._kept_bits())
        order = self.order.long() if self.is_reordered else torch.arange(self.row_length)
        return Blocks(self._grid, rows, columns, order.numpy())

    def mask(self) -> Tensor:
        """Which elements are kept: bool, of the tensor's shape."""
        return self._in_order(self._ordered_mask()).view(self.shape)

    @override
    def decode(self) -> Tensor:
        places = self._places()
        flat = self.values.new_zeros(self.shape.numel()).index_put((places,), self.values)
        return self._in_order(flat.view(self.shape[0], -1)).view(self.shape)

    @override
    @torch.no_grad()
    def scale_rows(self, scale: Tensor) -> None:
        self.values.mul_(scale[self._places() // self.row_length])

    def _kept_bits(self) -> tuple[Tensor, Tensor]:
        """Kept rows (blocks, block rows) and kept columns (blocks, block columns), bool."""
        count = self._grid.count
        rows, columns = (
            unpack_bits(bits, 1, count * length).view(count, length).bool()
            for bits, length in zip((self.row_bits, self.column_bits), self.block, strict=True)
        )
        return rows, columns

    def _ordered_mask(self) -> Tensor:
        """The mask with its columns in the blocks' order, bool, shape (rows, row length).

        Raises:
            FormatError: The stored bits keep another number.
        """
        rows, columns = self._kept_bits()
        mask = self._grid.matrix(rows[:, :, None] & columns[:, None, :])
        if int(mask.sum()) != self._kept:
            raise FormatError(f"the stored weights are damaged: expected {self._kept} kept, got {int(mask.sum())}")
        return mask

    def _places(self) -> Tensor:
        """Indices of the kept elements in the ordered matrix, block after block, each row by row; int64, (kept,)."""
        numbers = torch.arange(self.shape.numel()).view(self.shape[0], -1)
        mask = self._grid.blocks(self._ordered_mask().to(torch.uint8)).bool()
        return self._grid.blocks(numbers)[mask]

    def _in_order(self, matrix: Tensor) -> Tensor:
        """A matrix whose columns are in the blocks' order with them in the tensor's.

        Raises:
            FormatError: The stored order is none.
        """
        if not self.is_reordered:
            return matrix
        back = self.order.long().argsort(stable=True)
        if not torch.equal(self.order.long()[back], torch.arange(self.row_length)):
            raise FormatError("the stored weights are damaged: the order of their columns names one twice")
        return matrix.index_select(1, back)


def joint_sparsity(codecs: Sequence[BlockSparseCodec], gates: int = 1) -> BlockSparsity | None:
    """The sparsity of matrices that one operator multiplies by; None where there are none, or nothing is kept.

    Args:
        codecs: Of matrices with blocks of one size.
        gates: Of a recurrent layer, whose matrices lie below each other in each codec's; 1 for others.
    """
    kept = sum(codec.n_parameters for codec in codecs)
    if not kept:
        return None
    matrices = [codec.blocks() for codec in codecs]
    rows = torch.cat([torch.as_tensor(blocks.rows).sum(1) for blocks in matrices])
    rate = sum(codec.shape.numel() for codec in codecs) / kept
    kept_rows = round(float(rows[rows > 0].float().mean()))
    alike = gates if all(_are_alike(blocks, gates) for blocks in matrices) else 1
    return BlockSparsity(*codecs[0].block, round(rate, 1), kept_rows, alike)


def _are_alike(blocks: Blocks, gates: int) -> bool:
    """Whether each gate is of whole blocks and keeps what the first does."""
    if blocks.grid.rows % (gates * blocks.grid.block_rows):
        return False
    kept = (bits.reshape(gates, -1) for bits in (blocks.rows, blocks.columns))
    return all(bool((bits == bits[0]).all()) for bits in kept)
