"""Block column-row (BCR) pruning: in each block of the weight matrix whole rows and whole columns go."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import override

from ...errors import EspalierError
from ...graph.opspec import GATES
from ...kernels.block_grid import BlockGrid
from ..choice import Choice
from ..layers import BlockSparseCodec, Codec
from ..site import Site
from .magnitude_pruning import pruned, salience
from .ranges import above_one, at_least_one, zero_or_more
from .storing import FLOAT_BITS, LAYER_KINDS, StoringTechnique, Weight

__all__ = ["BcrPruning", "Block", "ColumnOrder", "KeptBlocks", "column_order", "project"]

#: Rows and columns.
Block = tuple[int, int]

#: Which sizes of blocks are offered at a layer: all of them, or the smallest of those that the device likes there.
Offer = Literal["every", "measured"]

#: How the columns of a convolution's matrix follow each other: the positions of a kernel side by side, or the channels.
ColumnOrder = Literal["kernel", "channel"]

#: Of which one is taken where blocks are measured and nobody names sizes.
_USUAL_BLOCKS: Sequence[Block] = ((4, 36), (8, 36), (16, 36), (32, 36), (32, 144))

#: Rows and columns of a block are chosen in turn, so often; more changes nothing that matters.
_TURNS = 3

#: Halvings of the interval of prices.
_HALVINGS = 24


@dataclass(frozen=True)
class KeptBlocks:
    """What is kept of a layer's matrix.

    Attributes:
        grid: Cuts the matrix with its columns in `order` into blocks.
        rows: Of each block, bool, shape (blocks, block rows).
        columns: Of each block, bool, shape (blocks, block columns).
        order: Which of the matrix's columns stands at each place, shape (K,).
    """

    grid: BlockGrid
    rows: Tensor
    columns: Tensor
    order: Tensor

    def mask(self) -> Tensor:
        """Which elements of the matrix are kept: bool, shape (outputs, K)."""
        ordered = self.grid.matrix(self.rows[:, :, None] & self.columns[:, None, :])
        mask = torch.empty_like(ordered)
        mask[:, self.order] = ordered
        return mask

    def codec(self, matrix: Tensor, shape: torch.Size) -> BlockSparseCodec:
        """Store what is kept.

        Args:
            matrix: Shape (outputs, K).
            shape: Of the weight tensor.
        """
        block = self.grid.block_rows, self.grid.block_columns
        ordered = matrix[:, self.order].float()
        return BlockSparseCodec.store(ordered, tuple(shape), block, self.rows, self.columns, self.order)


class BcrPruning(StoringTechnique):
    """Keep a dense rectangle of each block: some of its rows and, independently, some of its columns.

    Niu, Li et al. 2021, GRIM (arXiv 2108.11033). The matrix (outputs, K) is cut into blocks; what is kept of each is as
    large as it is worth, and all of them together hold 1 / rate of the weights. The weights that stay make up for those
    that go. One block for the whole matrix is filter and column pruning, blocks of 1 x 1 are unstructured pruning.

    Small blocks lose less accuracy, large ones are faster; how much depends on layer and rate (ibid., sec. 5). So
    several sizes can be offered at every rate, or each layer gets the one that a device was measured to like there.

    Args:
        rates: How many times fewer weights, each above 1.
        block_rows: Rows of a block.
        block_columns: Columns of a block.
        blocks: Rows and columns of blocks of several sizes; None for that of `block_rows` and `block_columns` alone, or
            for some usual ones where they are measured.
        block: Which of `blocks` are offered at each layer and rate: "every" one, each a choice of its own, or the
            "measured" one, which somebody who has a device must say (see `evaluation.block_sizes`).
        block_tolerance: By how much a measured size may be slower than the fastest to be taken for its fewer weights,
            such as .1 for a tenth.
        row_multiple: Kept rows of a block come in multiples of it, which vector units like.
        column_order: "channel": the columns are ordered by input channel, then by position in the kernel; "kernel": by
            position, then by channel.
        shares_gates: Whether the gates of a recurrent layer keep the same of each of their matrices, where whole blocks
            of rows fit into a gate: engines then load a state's numbers once for all gates.
        kinds: Of the layers it is offered at: "conv2d", "linear", "recurrent".

    Raises:
        EspalierError: A setting is out of range.
    """

    name = "bcr_pruning"

    def __init__(
        self,
        rates: Sequence[float] = (4.0, 8.0, 16.0),
        block_rows: int = 32,
        block_columns: int = 144,
        row_multiple: int = 4,
        column_order: ColumnOrder = "channel",
        shares_gates: bool = False,
        kinds: Sequence[str] = LAYER_KINDS,
        *,
        blocks: Sequence[Sequence[int]] | None = None,
        block: Offer = "every",
        block_tolerance: float = 0.1,
    ) -> None:
        super().__init__(kinds)
        self._rates = above_one("bcr_pruning.rates", *rates)
        (self._block_rows,) = at_least_one("bcr_pruning.block_rows", block_rows)
        (self._block_columns,) = at_least_one("bcr_pruning.block_columns", block_columns)
        (self._row_multiple,) = at_least_one("bcr_pruning.row_multiple", row_multiple)
        if column_order not in get_args(ColumnOrder):
            raise EspalierError(f"bcr_pruning.column_order must be channel or kernel, got {column_order!r}")
        self._column_order: ColumnOrder = column_order
        self._shares_gates = shares_gates
        if block not in get_args(Offer):
            raise EspalierError(f"bcr_pruning.block must be every or measured, got {block!r}")
        self._is_measured = block == "measured"
        sizes = _USUAL_BLOCKS if blocks is None and self._is_measured else blocks
        self._blocks = None if sizes is None else _checked_blocks(sizes)
        (self.block_tolerance,) = zero_or_more("bcr_pruning.block_tolerance", block_tolerance)
        self._sizes: dict[tuple[str, float], Block] | None = None

    @property
    def wants_sizes(self) -> bool:
        """Whether somebody must measure sizes of blocks before there are choices."""
        return self._is_measured and self._sizes is None

    def candidates(self, site: Site) -> Iterator[tuple[float, tuple[Block, ...]]]:
        """Each rate with the different sizes of blocks that save storage at a site."""
        for rate in self._rates if self.fits(site) else ():
            offered = self._offered(site, rate)
            yield rate, tuple(b for b in offered if self._bits(site, rate, b) < FLOAT_BITS * site.weights)

    def with_sizes(self, sizes: Mapping[tuple[str, float], Block]) -> "BcrPruning":
        """The same technique when sizes of blocks were measured.

        Args:
            sizes: Site name and rate -> the only size that is offered there.
        """
        twin = copy.copy(self)
        twin._sizes = dict(sizes)
        return twin

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if self.wants_sizes and self.fits(site):
            advice = "use space.techniques.bcr_pruning with device=host device.runtime=espalier, and no composition"
            raise EspalierError(f"bcr_pruning.block=measured, but nobody measured blocks: {advice}")
        return tuple(self._choice(rate, block) for rate, blocks in self.candidates(site) for block in blocks)

    def _choice(self, rate: float, block: Block) -> Choice:
        return Choice.of(self.name, rate=rate, **({"block": f"{block[0]}x{block[1]}"} if self._blocks else {}))

    def _offered(self, site: Site, rate: float) -> Sequence[Block]:
        """The measured size, or all but those that cut the site's matrix like one before them."""
        if self._sizes is not None:
            size = self._sizes.get((site.name, rate))
            return (size,) if size else ()
        blocks = self._blocks or ((self._block_rows, self._block_columns),)
        rows, columns = self.matrix_size(site)
        cut = {(min(block[0], rows), min(block[1], columns)): block for block in reversed(blocks)}
        return tuple(block for block in blocks if block in cut.values())

    @staticmethod
    def matrix_size(site: Site) -> Block:
        """Rows and columns of a site's matrix; of a recurrent layer, of the larger of its two."""
        if site.kind == "recurrent":
            return GATES[site.cell] * site.out_channels, max(site.in_channels, site.out_channels)
        return site.out_channels, site.weights // site.out_channels

    def _bits(self, site: Site, rate: float, block: Block) -> float:
        """Of what is stored at least: weights, and a bit for each row and column of each block."""
        return FLOAT_BITS * site.weights / rate + site.weights / (block[0] * block[1]) * sum(block)

    def sized(self, choice: Choice) -> "BcrPruning":
        """The same technique with blocks of the size that a choice names."""
        size = dict(choice.parameters).get("block")
        if size is None:
            return self
        twin = copy.copy(self)
        twin._block_rows, twin._block_columns = map(int, str(size).split("x"))
        return twin

    @override
    def encode(self, weight: Weight, choice: Choice) -> tuple[Codec, Tensor]:
        sized = self.sized(choice)
        kept = sized.keep(salience(weight).square(), weight.shape, float(choice["rate"]), weight.gates)
        matrix = pruned(weight, kept.mask())
        return kept.codec(matrix, weight.shape), matrix

    def ordered_grid(self, shape: Sequence[int]) -> tuple[BlockGrid, Tensor]:
        """How a layer's matrix is cut, and the order of columns in which it is.

        Args:
            shape: Of the weight tensor.
        """
        grid = BlockGrid(shape[0], math.prod(shape[1:]), self._block_rows, self._block_columns)
        return grid, column_order(shape, self._column_order)

    def keep(self, energy: Tensor, shape: Sequence[int], rate: float, gates: int = 1) -> KeptBlocks:
        """What to keep of a matrix.

        Args:
            energy: What each weight is worth, at least 0, shape (outputs, K); squares for the nearest matrix that is
                sparse in this way.
            shape: Of the weight tensor.
            rate: How many times fewer weights, at least 1.
            gates: Of a recurrent layer, whose matrices lie below each other; 1 for others.
        """
        grid, order = self.ordered_grid(shape)
        ordered = energy[:, order]
        shared = gates if self._shares_gates and shape[0] % (gates * self._block_rows) == 0 else 1
        one = replace(grid, rows=shape[0] // shared)
        summed = ordered.view(shared, one.rows, -1).sum(0)
        rows, columns = project(summed, one, max(1, int(summed.numel() / rate)), self._row_multiple)
        return KeptBlocks(grid, rows.repeat(shared, 1), columns.repeat(shared, 1), order)


def _checked_blocks(blocks: Sequence[Sequence[int]]) -> tuple[Block, ...]:
    if not blocks or any(len(block) != 2 for block in blocks):
        raise EspalierError(f"bcr_pruning.blocks must be pairs of rows and columns, got {list(map(list, blocks))}")
    sizes = (at_least_one("bcr_pruning.blocks", *block) for block in blocks)
    return tuple(dict.fromkeys((rows, columns) for rows, columns in sizes))


def column_order(shape: Sequence[int], order: ColumnOrder) -> Tensor:
    """Which column of a layer's matrix stands at each place, int64, shape (K,).

    Args:
        shape: Of the weight tensor: (outputs, channels, kernel height, kernel width) or (outputs, K).
        order: See `BcrPruning`.
    """
    columns = torch.arange(math.prod(shape[1:]))
    if order == "channel" or len(shape) == 2:
        return columns
    return columns.view(shape[1], -1).T.flatten()


def project(energy: Tensor, grid: BlockGrid, budget: int, row_multiple: int = 1) -> tuple[Tensor, Tensor]:
    """The rows and columns of each block that hold most energy within a budget.

    Each weight that is kept has a price, the same in all blocks, found by bisection. A block keeps the rectangle whose
    energy exceeds its price by most: for each number of rows, rows and columns are chosen in turn until they suit each
    other. At the end columns go, or come, to make the budget full.

    Args:
        energy: What each weight is worth, at least 0, shape (rows, columns).
        grid: Cuts it into blocks.
        budget: Weights to keep at most.
        row_multiple: Numbers of rows to try are its multiples.

    Returns:
        Kept rows, bool, (blocks, block rows), and columns, bool, (blocks, block columns).
    """
    blocks, heights = grid.blocks(energy), grid.heights()
    numbers = torch.tensor(range(row_multiple, grid.block_rows + 1, row_multiple) or [grid.block_rows])
    costs = torch.minimum(numbers[:, None], heights).to(blocks.dtype)
    columns = torch.ones(len(numbers), len(blocks), grid.block_columns, dtype=torch.bool)
    for _ in range(_TURNS):
        rows = _best_rows(blocks, heights, numbers, columns)
        by_column = torch.einsum("brc,nbr->nbc", blocks, rows.to(blocks.dtype))
        low, high = _prices(by_column, costs, budget)
        columns = by_column > low * costs[:, :, None]
    # Between the two prices the number of rows changes somewhere: too many rows, or too few of them.
    solutions = [_filled(blocks, *_rectangles(rows, by_column, costs, price), budget) for price in (low, high)]
    return max(solutions, key=lambda solution: _held(blocks, *solution))


def _best_rows(blocks: Tensor, heights: Tensor, numbers: Tensor, columns: Tensor) -> Tensor:
    """For each number of rows those of each block with most energy in the columns; bool, (numbers, blocks, rows)."""
    by_row = torch.einsum("brc,nbc->nbr", blocks, columns.to(blocks.dtype))
    exists = torch.arange(blocks.shape[1]) < heights[:, None]
    ranks = by_row.masked_fill(~exists, -1.0).argsort(dim=2, descending=True, stable=True).argsort(dim=2)
    return (ranks < numbers[:, None, None]) & exists


def _prices(by_column: Tensor, costs: Tensor, budget: int) -> tuple[float, float]:
    """A price of a weight at which too many are kept, and one close above it at which there are not."""
    low, high = 0.0, float(by_column.max()) * (1 + 1e-9)
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        best, columns = _best_numbers(by_column, costs, price)
        kept = (columns.sum(1) * costs.gather(0, best[None])[0]).sum()
        low, high = (price, high) if kept > budget else (low, price)
    return low, high


def _best_numbers(by_column: Tensor, costs: Tensor, price: float) -> tuple[Tensor, Tensor]:
    """Of each block the place of the best number of rows, shape (blocks,), and its columns, bool."""
    gains = by_column - price * costs[:, :, None]
    best = gains.clamp_min(0).sum(2).argmax(0)
    return best, gains[best, torch.arange(len(best))] > 0


def _rectangles(rows: Tensor, by_column: Tensor, costs: Tensor, price: float) -> tuple[Tensor, Tensor]:
    """The rectangle of each block whose energy exceeds its price by most."""
    best, columns = _best_numbers(by_column, costs, price)
    return rows[best, torch.arange(len(best))], columns


def _held(blocks: Tensor, rows: Tensor, columns: Tensor) -> float:
    return float(torch.einsum("brc,br,bc->", blocks, rows.to(blocks.dtype), columns.to(blocks.dtype)))


def _filled(blocks: Tensor, rows: Tensor, columns: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """The columns that are worth most for each weight, as many as the budget holds: first those that are chosen."""
    costs = rows.sum(1)[:, None].expand_as(columns)
    worth = torch.einsum("brc,br->bc", blocks, rows.to(blocks.dtype)) / costs.clamp_min(1)
    worth = worth + columns * (worth.max() + 1)
    order = worth.flatten().argsort(descending=True, stable=True)
    spent = (costs * (worth > 0)).flatten()[order].cumsum(0)
    stays = torch.zeros(columns.numel(), dtype=torch.bool)
    stays[order[spent <= budget]] = True
    kept = stays.view_as(columns) & (worth > 0) & rows.any(1, keepdim=True)
    return rows & kept.any(1, keepdim=True), kept
