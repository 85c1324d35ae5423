"""Types in which a compiled network stores its weights: floats, or fewer bits and a scale for each output."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BYTES", "FLOAT32", "WEIGHT_TYPES", "checked_weight_type", "rounded", "stored"]

Floats = NDArray[np.float32]

FLOAT32 = "float32"

#: Bytes of a weight of each type.
BYTES = {FLOAT32: 4, "bfloat16": 2, "int8": 1}

WEIGHT_TYPES = tuple(BYTES)

#: The largest code of int8; the grid is symmetric.
_LIMIT = 127

#: How far from a whole number a code may be by the rounding of floats: 127 codes times 2 ** -24, and some room.
_EXACT = 1e-4

#: A weight that is kept and rounds to zero: stored as 0, and no zero to whoever asks which weights are kept, for rows
#: of one block keep the same columns.
_KEPT = np.finfo(np.float32).smallest_subnormal


def checked_weight_type(weight_type: str) -> str:
    """The type, if there is such a one.

    Raises:
        ValueError: There is not.
    """
    if weight_type not in BYTES:
        raise ValueError(f"unknown type of weights {weight_type!r}; known: {', '.join(WEIGHT_TYPES)}")
    return weight_type


def rounded(matrix: Floats, weight_type: str) -> tuple[Floats, Floats]:
    """The nearest numbers that a type can store, and what each row of them is multiplied by.

    bfloat16: the upper half of a float, rounded to nearest, ties to even; scales are 1. int8: whole numbers from -127
    to 127, scales are the row's largest magnitude / 127. A row that lies on a grid of whole numbers up to 127 already
    keeps it, so that weights that were quantised before are not rounded again.

    A weight that rounds to zero becomes the smallest float: what is pruned and what is not stays as it was.

    Args:
        matrix: Finite, shape (rows, columns).
        weight_type: One of `WEIGHT_TYPES`.

    Returns:
        Shapes (rows, columns) and (rows,).
    """
    ones = np.ones(len(matrix), np.float32)
    if weight_type == "int8":
        return _whole_numbers(matrix)
    if weight_type == "bfloat16":
        halves = stored(matrix, weight_type).astype(np.uint32)
        return (halves << np.uint32(16)).view(np.float32), ones
    return matrix, ones


def _whole_numbers(matrix: Floats) -> tuple[Floats, Floats]:
    largest = np.abs(matrix).max(1, initial=0)
    scale = np.where(largest > 0, largest / np.float32(_LIMIT), np.float32(1))
    for row in np.flatnonzero(largest > 0):
        scale[row] = largest[row] / np.float32(_largest_code(np.abs(matrix[row])))
    # A row of the smallest floats may have no scale of its own.
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    codes = np.rint(matrix / scale[:, None]).clip(-_LIMIT, _LIMIT)
    return np.where((codes == 0) & (matrix != 0), _KEPT, codes), scale


def _largest_code(magnitudes: Floats) -> int:
    """The code of a row's largest magnitude, such that its other codes are whole numbers, too; else 127."""
    values = np.unique(magnitudes[magnitudes > 0])
    if len(values) <= _LIMIT:
        shares = values.astype(np.float64) / float(values[-1])
        for code in range(_LIMIT, 0, -1):
            codes = np.rint(shares * code)
            if codes[0] > 0 and np.abs(shares * code - codes).max() < _EXACT:
                return code
    return _LIMIT


def stored(values: Floats, weight_type: str) -> NDArray[Any]:
    """Numbers of a type as they stand in a file: float32, uint16 or int8.

    Args:
        values: Rounded by `rounded`; for bfloat16 any finite ones, which are rounded here.
        weight_type: One of `WEIGHT_TYPES`.
    """
    values = np.ascontiguousarray(values, np.float32)
    if weight_type == "int8":
        return values.astype(np.int8)
    if weight_type == "bfloat16":
        bits = values.view(np.uint32)
        # Half a unit of what is left, and less where the last bit that stays is even.
        half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return ((bits + half) >> np.uint32(16)).astype(np.uint16)
    return values
