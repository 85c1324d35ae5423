"""A curve through the known operators of one kind, monotone in their work."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from ...graph.opspec import OpSpec
from .linear_model import fit_prices
from .work import SizeRange, matrix_product, passes, work

__all__ = ["LEAST_POINTS", "Curve", "CurvePoint"]

Array = NDArray[np.float64]

#: Below this many operators the error of a curve cannot be told.
LEAST_POINTS = 4

#: Up to here each operator is left out once; with more, as many groups take turns.
_MOST_FOLDS = 20

_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a curve says of an operator.

    Attributes:
        value: In the unit of what the curve was fitted to.
        std: Its standard deviation, from the error at operators that were left out.
        octaves_outside: How far the operator lies outside of what is known: by how many doublings its channels, pixels
            or work exceed the largest or fall short of the smallest; 0 inside.
    """

    value: float
    std: float
    octaves_outside: float


class Curve:
    """Non-negative prices of work and of passes over tiles, then an isotonic correction of their sum.

    Neither step can make a larger operator cheaper: all amounts grow with every axis, the prices are not negative, and
    the correction (Barlow et al. 1972) does not fall. It is left out where it does not help at operators left out.

    Args:
        specs: The known operators, at least `LEAST_POINTS`.
        values: What each costs, above 0.
    """

    def __init__(self, specs: Sequence[OpSpec], values: Sequence[float]) -> None:
        amounts, known = np.array([_amounts(spec) for spec in specs]), np.array(values)
        errors = {corrected: _held_out(amounts, known, corrected) for corrected in (False, True)}
        rms = {corrected: float(np.sqrt(np.mean(np.square(error)))) for corrected, error in errors.items()}
        self._is_corrected = rms[True] < rms[False]
        self._fit = _Fit(amounts, known, self._is_corrected)
        self._range = SizeRange(specs)
        #: Predicted over known value, minus 1, for each operator while it was left out.
        self.held_out_errors: Array = errors[self._is_corrected]
        #: Root mean square of those errors.
        self.relative_std = rms[self._is_corrected]

    def __call__(self, spec: OpSpec) -> CurvePoint:
        """What an operator costs; the further outside of the known range, the less sure."""
        value = float(self._fit(np.array([_amounts(spec)]))[0])
        outside = self._range.octaves_outside(spec)
        # A doubling beyond what is known adds the whole error once more: a convention, which nothing measured.
        return CurvePoint(value, value * self.relative_std * (1 + outside), outside)


class _Fit:
    def __init__(self, amounts: Array, values: Array, is_corrected: bool) -> None:
        self._prices = fit_prices(amounts, values)
        sums = self._sums(amounts)
        if not is_corrected:
            self._log_sums = self._log_values = np.zeros(1)
            return
        order = np.argsort(sums)
        smooth = IsotonicRegression().fit_transform(sums[order], np.log(values[order]))
        self._log_sums, self._log_values = sums[order], smooth

    def __call__(self, amounts: Array) -> Array:
        sums = self._sums(amounts)
        inside = np.clip(sums, self._log_sums[0], self._log_sums[-1])
        # Outside of the known sums the last correction goes on as a factor, so that the curve keeps rising.
        at_edge = np.interp(inside, self._log_sums, self._log_values)
        found: Array = np.exp(at_edge + (sums - inside))
        return found

    def _sums(self, amounts: Array) -> Array:
        logs: Array = np.log(np.maximum(amounts @ self._prices, _TINY))
        return logs


def _held_out(amounts: Array, values: Array, is_corrected: bool) -> Array:
    n_folds = min(len(values), _MOST_FOLDS)
    fold = np.random.default_rng(0).permutation(len(values)) % n_folds
    errors = np.empty(len(values))
    for left_out in range(n_folds):
        tested = fold == left_out
        predicted = _Fit(amounts[~tested], values[~tested], is_corrected)(amounts[tested])
        errors[tested] = predicted / values[tested] - 1
    return errors


def _amounts(spec: OpSpec) -> list[float]:
    product = matrix_product(spec)
    return [*work(product).values(), *passes(product)]
