"""How much of a layer a kernel computes at once: the choices of a tuner, for each kind of kernel, and the defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from ...instruction_set import InstructionSet

__all__ = [
    "TILES",
    "PixelTile",
    "PointTile",
    "StateTile",
    "Tile",
    "default_pixel_tile",
    "default_point_tile",
    "default_state_tile",
]

#: What a tuner may choose of each number.
Genes: TypeAlias = Mapping[str, tuple[int, ...]]

#: Sums of a register tile over points where registers are plenty.
_SUMS = 24

#: The most columns over points that are unrolled.
_MOST_UNROLLED = 8

#: Bytes of a state's weights that do not stay in the second cache from step to step. Nearer ones need no prefetching,
#: which cost a tenth of the steps of a GRU of 1,024 units at a rate of 20.
_FAR_BYTES = 1 << 20


@dataclass(frozen=True, order=True)
class PixelTile:
    """Of a layer whose vectors are adjacent pixels.

    Attributes:
        rows: Output rows of a register tile.
        vectors: Vectors of pixels of a register tile.
        block: Register tiles of pixels that follow each other before the next rows.
        columns: Columns of the matrix after which the next rows come, so that the inputs of some pixels stay in the
            nearest cache; 0 for all.
        unroll: Columns that a loop computes at once.
        is_dense: Whether zeros are multiplied like other weights.
    """

    kind: ClassVar[str] = "pixels"
    genes: ClassVar[Genes] = {
        "rows": (4, 6, 8, 12, 16, 24),
        "vectors": (1, 2, 3, 4, 5, 6),
        "block": (1, 2, 4, 8, 16),
        "columns": (0, 144, 288),
        "unroll": (1, 2),
        "is_dense": (False, True),
    }

    rows: int
    vectors: int
    block: int = 1
    columns: int = 0
    unroll: int = 1
    is_dense: bool = False

    @property
    def registers(self) -> int:
        """Of its sums, its inputs and one weight."""
        return self.rows * self.vectors + self.vectors + 1


@dataclass(frozen=True, order=True)
class PointTile:
    """Of a layer whose vectors are adjacent rows of the matrix: linear, small images, the inputs of recurrent layers.

    Attributes:
        vectors: Vectors of rows of a register tile.
        points: Points of a register tile.
        open_sums: Sums that are open at once at least; a tile of fewer takes several columns at a time, each with sums
            of its own, so that no multiplication waits for the one before it.
        prefetches: Whether weights are fetched ahead.
        is_dense: Whether zeros are multiplied like other weights.
    """

    kind: ClassVar[str] = "points"
    genes: ClassVar[Genes] = {
        "vectors": (1, 2, 3, 4, 6, 8),
        "points": (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24),
        "open_sums": (4, 8, 12, 16, 24),
        "prefetches": (False, True),
        "is_dense": (False, True),
    }

    vectors: int
    points: int
    open_sums: int = 8
    prefetches: bool = True
    is_dense: bool = False

    @property
    def registers(self) -> int:
        """Of its sums, one column's weights and one input."""
        return max(self.vectors * self.points, self.open_sums) + self.vectors + 1

    def unrolled(self, sums: int) -> int:
        """Columns that a kernel with so many sums of a column computes at once."""
        return max(1, min(_MOST_UNROLLED, self.open_sums // sums))


@dataclass(frozen=True, order=True)
class StateTile:
    """Of the states' products of a recurrent layer.

    Attributes:
        copies: Columns that are computed at once, each with sums of its own.
        prefetches: Whether weights are fetched ahead.
        is_joint: Whether gates that keep the same columns are computed together.
    """

    kind: ClassVar[str] = "states"
    genes: ClassVar[Genes] = {
        "copies": (1, 2, 3, 4, 6, 8),
        "prefetches": (False, True),
        "is_joint": (False, True),
    }

    copies: int
    prefetches: bool
    is_joint: bool

    def registers(self, gates: int) -> int:
        """Of its sums, its inputs and one weight where so many gates are computed together."""
        return gates * self.copies + self.copies + 1


Tile: TypeAlias = PixelTile | PointTile | StateTile

#: By their kind's name.
TILES: Mapping[str, type[Tile]] = {tile.kind: tile for tile in (PixelTile, PointTile, StateTile)}


def default_pixel_tile(instruction_set: InstructionSet, vectors: int) -> PixelTile:
    """A good tile without tuning.

    Args:
        instruction_set: Whose registers.
        vectors: Vectors of pixels of the layer.
    """
    across = 1 if vectors == 1 else 2 if vectors in (2, 4) else 3
    most = (instruction_set.registers - 1 - across) // across
    rows = max(rows for rows in (4, 8, 16) if rows <= most)
    return PixelTile(rows, across, 4)


def default_point_tile(instruction_set: InstructionSet, group_rows: Sequence[int], points: int) -> PointTile:
    """A good tile without tuning: as many vectors as most rows share their columns with.

    Args:
        instruction_set: Whose registers.
        group_rows: Rows of each group of rows with the same columns.
        points: Of the layer.
    """
    sums = min(_SUMS, instruction_set.registers - 6)
    rows = np.average(group_rows, weights=group_rows) if len(group_rows) else 1
    shared = max(1, int(rows) // instruction_set.lanes)
    vectors = 3 if shared % 3 == 0 else 2 if shared % 2 == 0 else 1
    at_once = min(points, max(1, sums // vectors))
    if points == at_once:
        vectors = max(vectors, min(shared, 4, sums // at_once))
    return PointTile(vectors, at_once)


def default_state_tile(gates: int, shares_columns: bool, weight_bytes: int) -> StateTile:
    """A good tile without tuning.

    Args:
        gates: Of the layer.
        shares_columns: Whether the gates of each state unit keep the same columns.
        weight_bytes: Of the state's weights.
    """
    return StateTile(2 if shares_columns and gates > 1 else 4, weight_bytes > _FAR_BYTES, shares_columns)
