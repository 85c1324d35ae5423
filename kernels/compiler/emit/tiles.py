"""How much of a layer a kernel computes at once."""

from dataclasses import dataclass

from ...instruction_set import InstructionSet

__all__ = ["GENES", "Tile", "default_tile", "fits"]


@dataclass(frozen=True, order=True)
class Tile:
    """The choices of a tuner for one layer.

    Attributes:
        rows: Output rows of a register tile.
        vectors: Vectors of pixels of a register tile.
        block: Register tiles of pixels that follow each other before the next rows.
        columns: Columns of the matrix after which the next rows come, so that the inputs of some pixels stay in the
            nearest cache; 0 for all.
        unroll: Columns that a loop computes at once.
        is_dense: Whether zeros are multiplied like other weights.
    """

    rows: int
    vectors: int
    block: int = 1
    columns: int = 0
    unroll: int = 1
    is_dense: bool = False


#: What a tuner may choose of each.
GENES: dict[str, tuple[int, ...]] = {
    "rows": (4, 6, 8, 12, 16, 24),
    "vectors": (1, 2, 3, 4, 5, 6),
    "block": (1, 2, 4, 8, 16),
    "columns": (0, 144, 288),
    "unroll": (1, 2),
    "is_dense": (0, 1),
}


def fits(tile: Tile, instruction_set: InstructionSet, vectors: int) -> bool:
    """Whether registers hold a tile's sums, inputs and one weight, and the layer has so many pixels.

    Args:
        tile: Any.
        instruction_set: Whose registers.
        vectors: Vectors of pixels of the layer.
    """
    registers = tile.rows * tile.vectors + tile.vectors + 1
    return registers <= instruction_set.registers and tile.vectors <= vectors and tile.block < 2 * vectors


def default_tile(instruction_set: InstructionSet, vectors: int) -> Tile:
    """A good tile without tuning."""
    across = 1 if vectors == 1 else 2 if vectors in (2, 4) else 3
    most = (instruction_set.registers - 1 - across) // across
    rows = max(rows for rows in (4, 8, 16) if rows <= most)
    return Tile(rows, across, 4)
