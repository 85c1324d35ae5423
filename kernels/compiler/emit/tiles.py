"""How much of a layer a kernel computes at once."""

from dataclasses import dataclass

from ...instruction_set import InstructionSet

__all__ = ["Tile", "candidates", "default_tile"]

#: More vectors of pixels at once serve no layer.
_MOST_VECTORS = 6

#: Rows of a tile at most.
_MOST_ROWS = 24


@dataclass(frozen=True, order=True)
class Tile:
    """The choices of a tuner for one layer.

    Attributes:
        rows: Output rows of a register tile.
        vectors: Vectors of pixels of a register tile.
        block: Register tiles of pixels that follow each other before the next rows.
        columns: Columns of the matrix after which the next rows come, so that the inputs of some pixels stay in the
            nearest cache; 0 for all.
    """

    rows: int
    vectors: int
    block: int = 1
    columns: int = 0


def candidates(instruction_set: InstructionSet, vectors: int) -> list[Tile]:
    """Register tiles that fit.

    Args:
        instruction_set: Whose registers hold sums, inputs and one weight.
        vectors: Vectors of pixels of the layer.
    """
    found = []
    for across in range(1, min(_MOST_VECTORS, vectors) + 1):
        most = (instruction_set.registers - 1 - across) // across
        for rows in (4, 6, 8, 12, 16, 24):
            if rows <= min(most, _MOST_ROWS):
                found += [Tile(rows, across, block) for block in (1, 2, 4, 8) if block * across < 2 * vectors]
    return found


def default_tile(instruction_set: InstructionSet, vectors: int) -> Tile:
    """A good tile without tuning."""
    across = 1 if vectors == 1 else 2 if vectors in (2, 4) else 3
    most = (instruction_set.registers - 1 - across) // across
    rows = max(rows for rows in (4, 8, 16) if rows <= most)
    return Tile(rows, across, 4)
