"""Coefficients that are not negative, so that no weighted sum falls when an amount grows."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

__all__ = ["nonnegative_least_squares"]

Floats = NDArray[np.float64]


def nonnegative_least_squares(matrix: Floats, target: Floats) -> Floats:
    """The x of at least 0 that brings matrix x nearest to target (Lawson and Hanson 1974).

    Args:
        matrix: Shape (rows, columns).
        target: Shape (rows,).

    Returns:
        Shape (columns,); 0 where a column holds nothing.
    """
    # Columns of like size keep the solver from giving up on ill-scaled problems.
    size = np.maximum(np.abs(matrix).max(axis=0), 1e-12)
    solution, _ = nnls(matrix / size, target, maxiter=30 * matrix.shape[1])
    found: Floats = solution / size
    return found
