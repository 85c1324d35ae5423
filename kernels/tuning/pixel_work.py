"""Convolutions whose vectors are adjacent pixels, as a tuner knows them."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..compiler.emit.tiles import PixelTile, default_pixel_tile
from ..compiler.ir import Convolution
from ..compiler.layout import Layout
from ..instruction_set import InstructionSet
from .work import CALL_CYCLES, LINE_CYCLES, SUM_CYCLES, Group, Work, dense_of, geometry_of, groups_of

__all__ = ["PixelWork"]

#: Rows that a kernel takes at once, as far as the groups are concerned.
_ROWS = 8


@dataclass(frozen=True)
class PixelWork(Work[PixelTile]):
    """A convolution over pixels as a kernel sees it.

    Attributes:
        vectors: Vectors of pixels.
        groups: Of each group of rows with the same columns, how many rows and columns.
        dense: Rows and columns of the whole matrix.
    """

    vectors: int
    groups: tuple[Group, ...]
    dense: Group

    @classmethod
    def of(cls, layer: Convolution, layout: Layout, instruction_set: InstructionSet) -> "PixelWork":
        """The work of a layer whose output has that layout."""
        vectors = -(-layout.points // instruction_set.lanes)
        geometry = geometry_of(layer, layout.row_stride)
        return cls(instruction_set, geometry, vectors, groups_of(layer, _ROWS), dense_of(layer))

    @property
    def default(self) -> PixelTile:
        """The tile without tuning."""
        return default_pixel_tile(self.instruction_set, self.vectors)

    def fits(self, tile: PixelTile) -> bool:
        """Whether registers hold the tile's sums, inputs and one weight, and the layer has so many pixels."""
        is_small = tile.vectors <= self.vectors and tile.block < 2 * self.vectors
        return tile.registers <= self.instruction_set.registers and is_small

    @property
    def first_genes(self) -> Mapping[str, tuple[int, ...]]:
        """Those of few blocks and single columns."""
        return {**PixelTile.genes, "block": (1, 4), "columns": (0, 288), "unroll": (1,)}

    def predicted_cycles(self, tile: PixelTile) -> float:
        """Multiplications at two vectors a cycle or loads at two a cycle, calls, and lines from afar."""
        whole, rest = divmod(self.vectors, tile.vectors)
        total = 0.0
        for rows, columns in (self.dense,) if tile.is_dense else self.groups:
            for height, count in ((tile.rows, rows // tile.rows), (rows % tile.rows, 1)):
                for width, tiles in ((tile.vectors, whole), (rest, 1)):
                    if height and width:
                        total += count * tiles * _call(height, width, columns, tile)
        return total


def _call(height: int, width: int, columns: int, tile: PixelTile) -> float:
    sums = height * width
    # A shifted load reaches over the end of a line: it counts twice. Eight sums hide a multiplication's latency.
    column = max(sums / 2, (height + 2 * width) / 2, 4.0 * sums / max(8, sums))
    lines = columns * (width + 1) * LINE_CYCLES / (2 if tile.block > 1 else 1) / max(1, tile.rows // 8)
    parts = max(1, -(-columns // tile.columns)) if tile.columns else 1
    return columns * column + parts * (CALL_CYCLES + sums * SUM_CYCLES) + lines
