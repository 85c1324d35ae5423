"""Closed-form fits of a layer's weights to the layer's own outputs.

A layer y = W x + b with input covariance C has the output error tr(E C E^T) when its weights are off by E and its bias
makes up for the mean. Every fit here minimises that error over what a technique leaves free; none needs the inputs
themselves. Weights are matrices (outputs, inputs), convolutions as (out_channels, in_channels * kernel positions).
All tensors are float64.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Floats",
    "compensation",
    "least_squares",
    "output_basis",
    "output_energy",
    "reduced_weight",
    "relative_error",
    "round_in_sequence",
    "shrunk_covariance",
    "solve_right",
    "whitened_basis",
]

Floats = NDArray[np.float64]

#: Columns that are rounded before the later ones are updated.
_BLOCK = 64


def shrunk_covariance(covariance: Tensor, samples: int) -> Tensor:
    """A well-conditioned covariance from few samples: oracle-approximating shrinkage (Chen et al. 2010, eq. 23).

    Args:
        covariance: Sample covariance, shape (K, K).
        samples: How many samples it was made of, at least 1.

    Returns:
        (1 - rho) C + rho tr(C)/K I, shape (K, K), rho in (0, 1].
    """
    size = covariance.shape[0]
    trace = covariance.trace()
    trace_of_square = covariance.square().sum()
    numerator = (1 - 2 / size) * trace_of_square + trace**2
    denominator = (samples + 1 - 2 / size) * (trace_of_square - trace**2 / size)
    rho = float(torch.clamp(numerator / denominator, 1e-6, 1.0)) if denominator > 0 else 1.0
    shrunk = (1 - rho) * covariance
    # The floor keeps a layer whose inputs are all constant solvable.
    shrunk.diagonal().add_(max(rho * float(trace) / size, 1e-12))
    if torch.linalg.cholesky_ex(shrunk).info:
        # Inputs that hardly vary have less variance than their second moments' rounding errors.
        eigenvalues = torch.linalg.eigvalsh(shrunk)
        shrunk.diagonal().add_(2 * eigenvalues[0].abs() + 1e-12 * eigenvalues[-1])
    return shrunk


def output_energy(weight: Tensor, covariance: Tensor) -> float:
    """tr(W C W^T), the variance of the outputs summed over them."""
    return float((weight @ covariance).mul(weight).sum())


def relative_error(error: Tensor, weight: Tensor, covariance: Tensor) -> float:
    """Root of the output error over the output energy: 0 for a perfect fit, 1 for a layer that gives its mean."""
    energy = output_energy(weight, covariance)
    return (max(output_energy(error, covariance), 0.0) / energy) ** 0.5 if energy > 0 else 0.0


def least_squares(weight: Tensor, covariance: Tensor, features: Tensor) -> Tensor:
    """The H that makes H T x closest to W x.

    Args:
        weight: W, shape (outputs, K).
        covariance: C, shape (K, K), positive definite.
        features: T, shape (features, K), of full rank.

    Returns:
        H = W C T^T (T C T^T)^-1, shape (outputs, features).
    """
    projected = features @ covariance
    return solve_right(weight @ projected.T, projected @ features.T)


def reduced_weight(weight: Tensor, covariance: Tensor, kept: Tensor) -> Tensor:
    """The best weights when only some inputs are left: W C[:, M] C[M, M]^-1.

    Args:
        weight: W, shape (outputs, K).
        covariance: C, shape (K, K), positive definite.
        kept: Indices M of the inputs that are left.

    Returns:
        Shape (outputs, len(M)).
    """
    return solve_right(weight @ covariance[:, kept], covariance[kept][:, kept])


def solve_right(right: Tensor, matrix: Tensor) -> Tensor:
    """The product right @ matrix^-1 for a symmetric positive semi-definite matrix.

    Args:
        right: Shape (outputs, K).
        matrix: Shape (K, K).
    """
    jitter = 1e-10 * matrix.diagonal().mean().clamp_min(1e-12)
    regular = matrix + jitter * torch.eye(matrix.shape[0], dtype=matrix.dtype)
    factor, failed = torch.linalg.cholesky_ex(regular)
    if failed:
        pseudo_solution: Tensor = torch.linalg.lstsq(regular, right.T, driver="gelsd").solution
        return pseudo_solution.T
    return torch.cholesky_solve(right.T, factor).T


def output_basis(weight: Tensor, covariance: Tensor) -> Tensor:
    """Directions of the outputs in order of falling variance.

    The best rank-r weight is U_r U_r^T W with U_r the first r of them (principal components of the outputs).

    Returns:
        Orthonormal columns, shape (outputs, outputs).
    """
    vectors: Tensor = torch.linalg.eigh(weight @ covariance @ weight.T).eigenvectors
    return vectors.flip(1)


def whitened_basis(unfolded: Tensor, covariance: Tensor) -> Tensor:
    """Row vectors that best span the rows of `unfolded` when inputs have this covariance, most important first.

    The first r rows V_r are those for which some H_r makes H_r V_r closest to the matrix in the norm of C: the right
    singular vectors of M L, C = L L^T, brought back by L^-1.

    Args:
        unfolded: M, shape (..., rows, K).
        covariance: C, shape (..., K, K), positive definite.

    Returns:
        Shape (..., K, K).
    """
    factor = torch.linalg.cholesky(covariance)
    whitened = unfolded @ factor
    vectors: Tensor = torch.linalg.eigh(whitened.mT @ whitened).eigenvectors
    rows: Tensor = torch.linalg.solve_triangular(factor, vectors.flip(-1).mT, upper=False, left=False)
    return rows


def compensation(covariance: Tensor) -> Tensor:
    """How the error of one input's weights is best made up for by those of later inputs.

    Args:
        covariance: C, shape (K, K), positive definite.

    Returns:
        The upper Cholesky factor of C^-1, shape (K, K).
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor


def round_in_sequence(weight: Tensor, factor: Tensor, rounded: Callable[[int, Floats], Floats]) -> Tensor:
    """Round the inputs' weights one column after the other, the later columns making up for each error.

    Optimal brain compression in its fixed-order form (Frantar et al. 2022, arXiv 2210.17323, eqs. 2 and 3), with the
    later columns updated a block at a time.

    Args:
        weight: W, shape (outputs, K).
        factor: Of the inputs' covariance; see `compensation`.
        rounded: From a column index and a column (outputs,) to the column's allowed values.

    Returns:
        The rounded weights, shape (outputs, K).
    """
    # In NumPy, whose calls on a few dozen numbers cost a tenth of PyTorch's, and with a column's numbers side by side.
    remaining = weight.T.clone(memory_format=torch.contiguous_format).numpy()
    for start in range(0, len(remaining), _BLOCK):
        stop = min(start + _BLOCK, len(remaining))
        errors = _round_block(remaining[start:stop], factor[start:stop, start:stop].numpy(), start, rounded)
        torch.from_numpy(remaining)[stop:] -= factor[start:stop, stop:].T @ torch.from_numpy(errors)
    return torch.from_numpy(np.ascontiguousarray(remaining.T))


def _round_block(block: Floats, factor: Floats, first: int, rounded: Callable[[int, Floats], Floats]) -> Floats:
    """Round the columns of a block, which are rows here, in place; gives their errors over the factor's diagonal."""
    errors = np.empty_like(block)
    for row, column in enumerate(block):
        values = rounded(first + row, column)
        errors[row] = (column - values) / factor[row, row]
        column[:] = values
        block[row + 1 :] -= factor[row, row + 1 :, None] * errors[row]
    return errors
