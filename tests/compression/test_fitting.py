"""Closed-form fits against least squares on the inputs themselves."""

import math

import numpy as np
import pytest
import torch
from espalier.compression.fitting import (
    Floats,
    compensation,
    least_squares,
    output_basis,
    output_energy,
    reduced_weight,
    relative_error,
    round_in_sequence,
    shrunk_covariance,
    solve_right,
    whitened_basis,
)
from sklearn.covariance import OAS
from torch import Tensor


@pytest.fixture
def inputs() -> Tensor:
    """Correlated, centred inputs (500, 12)."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    values = torch.randn(500, 12, generator=generator, dtype=torch.float64) @ mixing
    return values - values.mean(0)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(7, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _covariance(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs / len(inputs)


def test_shrinkage_is_between_nothing_and_the_mean_variance(inputs: Tensor) -> None:
    """rho from the eigenvalues, in NumPy; scikit-learn's simplified formula gives nearly the same for many axes."""
    few = inputs[:30] - inputs[:30].mean(0)
    covariance = _covariance(few)
    eigenvalues = np.linalg.eigvalsh(covariance.numpy())
    p, square, trace = 12, float((eigenvalues**2).sum()), float(eigenvalues.sum())
    rho = ((1 - 2 / p) * square + trace**2) / ((30 + 1 - 2 / p) * (square - trace**2 / p))
    expected = (1 - rho) * eigenvalues + rho * trace / p
    assert np.allclose(torch.linalg.eigvalsh(shrunk_covariance(covariance, 30)).numpy(), expected)
    assert rho == pytest.approx(OAS(assume_centered=True).fit(few.numpy()).shrinkage_, rel=0.1)


def test_constant_inputs_stay_solvable() -> None:
    shrunk = shrunk_covariance(torch.zeros(3, 3, dtype=torch.float64), 10)
    assert torch.linalg.eigvalsh(shrunk).min() > 0


def test_energy_and_error_are_those_of_the_outputs(inputs: Tensor, weight: Tensor) -> None:
    covariance = _covariance(inputs)
    outputs = inputs @ weight.T
    assert output_energy(weight, covariance) == pytest.approx(float(outputs.square().sum()) / len(inputs))
    other = 0.1 * weight.roll(1, 1)
    expected = float((inputs @ other.T).norm() / outputs.norm())
    assert relative_error(other, weight, covariance) == pytest.approx(expected)
    assert relative_error(other, torch.zeros_like(weight), covariance) == 0


def test_least_squares_and_reduced_weight_equal_lstsq(inputs: Tensor, weight: Tensor) -> None:
    features = torch.randn(5, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    outputs = inputs @ weight.T
    expected = torch.linalg.lstsq(inputs @ features.T, outputs).solution.T
    assert torch.allclose(least_squares(weight, _covariance(inputs), features), expected, atol=1e-6)
    kept = torch.tensor([0, 3, 4, 9])
    expected = torch.linalg.lstsq(inputs[:, kept], outputs).solution.T
    assert torch.allclose(reduced_weight(weight, _covariance(inputs), kept), expected, atol=1e-6)


def test_singular_systems_give_the_smallest_solution() -> None:
    matrix = torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64))
    right = torch.tensor([[4.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(solve_right(right, matrix), torch.tensor([[2.0, 0.0]], dtype=torch.float64), atol=1e-6)
    indefinite = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert torch.allclose(solve_right(right, indefinite), torch.tensor([[4.0, 0.0]], dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_output_basis_leaves_the_eckart_young_error(inputs: Tensor, weight: Tensor, rank: int) -> None:
    outputs = inputs @ weight.T
    basis = output_basis(weight, _covariance(inputs))[:, :rank]
    left_out = torch.linalg.svdvals(outputs)[rank:]
    assert float((outputs - outputs @ basis @ basis.T).norm()) == pytest.approx(float(left_out.norm()))


def test_whitened_basis_is_the_best_row_space(inputs: Tensor, weight: Tensor) -> None:
    covariance = _covariance(inputs)
    rows = whitened_basis(weight, covariance)[:3]
    fitted = least_squares(weight, covariance, rows) @ rows
    best = torch.linalg.svdvals(weight @ torch.linalg.cholesky(covariance))[3:].norm()
    assert math.sqrt(output_energy(weight - fitted, covariance)) == pytest.approx(float(best))


def test_rounding_in_sequence_beats_rounding_alone(inputs: Tensor, weight: Tensor) -> None:
    covariance = _covariance(inputs)

    def rounded(_: int, column: Floats) -> Floats:
        return np.rint(column * 2) / 2

    sequence = round_in_sequence(weight, compensation(covariance), rounded)
    assert torch.equal(sequence, (sequence * 2).round() / 2)
    alone = (weight * 2).round() / 2
    assert output_energy(weight - sequence, covariance) < output_energy(weight - alone, covariance)
    white = torch.eye(12, dtype=torch.float64)
    assert torch.equal(round_in_sequence(weight, white, rounded), alone)
