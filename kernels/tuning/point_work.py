"""Layers whose vectors are adjacent rows of the matrix, as a tuner knows them: linear, small images, sequences."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..compiler.emit.tiles import PointTile, default_point_tile
from ..compiler.ir import Convolution
from ..instruction_set import InstructionSet
from ..weight_types import BYTES
from .work import CALL_CYCLES, LINE_CYCLES, SUM_CYCLES, Group, Work, dense_of, geometry_of, groups_of

__all__ = ["PointWork"]

#: Cycles until a multiplication's result can be added to.
_LATENCY_CYCLES = 4.0

#: Bytes of a cache line, of what the second cache holds of weights, and how much longer lines from behind it take.
_LINE = 64
_NEAR_BYTES = 1 << 20
_FAR = 4.0


@dataclass(frozen=True)
class PointWork(Work[PointTile]):
    """A layer over points as a kernel sees it.

    Attributes:
        points: Of the output.
        groups: Of each group of rows with the same columns, how many rows and columns.
        dense: Rows and columns of the whole matrix.
        weight_type: How the weights are stored.
    """

    points: int
    groups: tuple[Group, ...]
    dense: Group
    weight_type: str

    @classmethod
    def of(cls, layer: Convolution, row_stride: int, instruction_set: InstructionSet) -> "PointWork":
        """The work of a layer whose output has so many points from a row to the next."""
        groups = groups_of(layer, instruction_set.lanes)
        points = layer.shape[1] * layer.shape[2]
        what = (points, groups, dense_of(layer), layer.weight_type)
        return cls(instruction_set, geometry_of(layer, row_stride), *what)

    @property
    def default(self) -> PointTile:
        """The tile without tuning."""
        return default_point_tile(self.instruction_set, [rows for rows, _ in self.groups], self.points)

    def fits(self, tile: PointTile) -> bool:
        """Whether registers hold the tile, the layer has so many rows and points, and its zeros make it no other's.

        A layer without zeros is the same layer when it is computed dense.
        """
        most_rows = self.dense[0] if tile.is_dense else max((rows for rows, _ in self.groups), default=1)
        if tile.is_dense and self.groups == (self.dense,):
            return False
        is_small = tile.points <= self.points and tile.vectors <= -(-most_rows // self.instruction_set.lanes)
        return tile.registers <= self.instruction_set.registers and is_small

    @property
    def first_genes(self) -> Mapping[str, tuple[int, ...]]:
        """Those that open about as many sums as hide a multiplication's latency, and fetch weights ahead."""
        return {**PointTile.genes, "open_sums": (8, 16), "prefetches": (True,)}

    def promising(self) -> list[PointTile]:
        """The default, the most promising dense tile, so that each layer is measured dense, too; then the others."""
        default, *others = super().promising()
        dense = [tile for tile in others if tile.is_dense][:1]
        return [default, *dense, *others]

    def predicted_cycles(self, tile: PointTile) -> float:
        """Multiplications at two vectors a cycle or loads at two a cycle, calls, and the weights' lines from afar."""
        groups = Counter((self.dense,) if tile.is_dense else self.groups)
        bytes_ = sum(rows * columns * count for (rows, columns), count in groups.items()) * BYTES[self.weight_type]
        total = bytes_ / _LINE * LINE_CYCLES * (_FAR if bytes_ > _NEAR_BYTES else 1)
        for (rows, columns), count in groups.items():
            whole, rest = divmod(-(-rows // self.instruction_set.lanes), tile.vectors)
            total += count * whole * self._panel(tile.vectors, columns, tile)
            total += count * self._panel(rest, columns, tile) if rest else 0.0
        return total

    def _panel(self, height: int, columns: int, tile: PointTile) -> float:
        """Some vectors of rows for all points."""
        width = -(-self.points // -(-self.points // tile.points))
        whole, rest = divmod(self.points, width)
        total = whole * _call(height, width, columns, tile)
        return total + (_call(height, rest, columns, tile) if rest else 0.0)


def _call(height: int, width: int, columns: int, tile: PointTile) -> float:
    sums = height * width
    unrolled = tile.unrolled(sums)
    column = max(sums / 2, (height + width) / 2, _LATENCY_CYCLES / unrolled)
    # What is left of the columns runs one by one.
    rest = columns % unrolled
    cycles = (columns - rest) * column + rest * max(column, _LATENCY_CYCLES)
    return cycles + CALL_CYCLES + sums * (SUM_CYCLES + unrolled)
