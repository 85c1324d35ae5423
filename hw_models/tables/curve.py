"""A curve through the known operators of one kind, monotone in their work."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from ...graph.opspec import OpSpec
from ..predictors.nonnegative import nonnegative_least_squares
from ..predictors.work import operator_work
from .sizes import SizeRange, matrix_product, passes

__all__ = ["LEAST_POINTS", "Curve", "CurvePoint"]

Array = NDArray[np.float64]

#: Below this many operators the error of a curve cannot be told.
LEAST_POINTS = 4

#: Up to here each operator is left out once; with more, as many groups take turns.
_MOST_FOLDS = 20

_TINY = 1e-30

#: A form of more parameters must bring the error down to this share of the simpler one's, and by so much at least.
_WORTHWHILE = 0.95
_NEGLIGIBLE = 1e-3


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
    """Non-negative coefficients of work and of passes over tiles, then an isotonic correction of their sum.

    Neither step can make a larger operator cheaper: all amounts grow with every axis, the coefficients are not
    negative, and the correction (Barlow et al. 1972) does not fall. Passes and correction are left out unless they help
    at operators that are left out.

    Args:
        specs: The known operators, at least `LEAST_POINTS`.
        values: What each costs, above 0.

    Attributes:
        held_out_errors: Predicted over known value, minus 1, for each operator while it was left out.
        relative_std: Root mean square of those errors.
    """

    def __init__(self, specs: Sequence[OpSpec], values: Sequence[float]) -> None:
        known = np.array(values)
        self._has_passes, is_corrected, self.held_out_errors = _best_form(specs, known)
        self.relative_std = _root_mean_square(self.held_out_errors)
        self._fit = _Fit(_amounts(specs, self._has_passes), known, is_corrected)
        self._range = SizeRange(specs)

    def __call__(self, spec: OpSpec) -> CurvePoint:
        """What an operator costs; the further outside of the known range, the less sure."""
        value = float(self._fit(_amounts([spec], self._has_passes))[0])
        outside = self._range.octaves_outside(spec)
        # A doubling beyond what is known adds the whole error once more: a convention, which nothing measured.
        return CurvePoint(value, value * self.relative_std * (1 + outside), outside)


class _Fit:
    def __init__(self, amounts: Array, values: Array, is_corrected: bool) -> None:
        self._coefficients = nonnegative_least_squares(amounts / values[:, None], np.ones(len(values)))
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
        logs: Array = np.log(np.maximum(amounts @ self._coefficients, _TINY))
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


def _best_form(specs: Sequence[OpSpec], values: Array) -> tuple[bool, bool, Array]:
    """Whether passes and a correction help, and the errors at what is left out; in doubt neither is taken."""
    best: tuple[bool, bool, Array] | None = None
    for has_passes, is_corrected in ((False, False), (True, False), (False, True), (True, True)):
        errors = _held_out(_amounts(specs, has_passes), values, is_corrected)
        if best is None or _root_mean_square(errors) < _WORTHWHILE * _root_mean_square(best[2]) - _NEGLIGIBLE:
            best = has_passes, is_corrected, errors
    assert best is not None
    return best


def _root_mean_square(errors: Array) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def _amounts(specs: Sequence[OpSpec], has_passes: bool) -> Array:
    products = [matrix_product(spec) for spec in specs]
    return np.array([[*operator_work(product), *(passes(product) if has_passes else [])] for product in products])
