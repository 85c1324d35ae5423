"""A predictor that is fitted to whole networks: ridge regression, and boosted trees where they help."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from ..cost import Estimate
from ..spaces.architecture import Architecture
from .features import FeatureMap, feature_rows
from .intervals import HeldOutErrors
from .latencies import paired_latencies
from .trees import BoostedTrees, fit_trees

__all__ = ["CalibratedPredictor"]

Floats = NDArray[np.float64]

_ALPHAS = np.logspace(-6, 4, 21)
_FOLDS = 5
_FEWEST = 20
#: Sets of columns that a fit chooses from, as prefixes of their names.
_COLUMN_SETS = (("is|",), ("work|",), ("n|", "number|"), ("",))
#: Trees must lower the cross-validated error by this share, and by this much, to be worth their size.
_WORTH_SHARE, _WORTH = 0.03, 1e-4


@dataclass(frozen=True)
class CalibratedPredictor:
    """Latency of a network from its decisions and the work of its operators.

    Attributes:
        device: What was measured.
        features: The columns that networks are described by.
        weights: Milliseconds per standardised column, shape (columns,).
        intercept_ms: Latency of the mean network.
        trees: What is added to the linear part; None for nothing.
        errors: Errors on networks that took no part in the fit.
        floor_ms: The least latency that is ever predicted: half the least that was measured.
    """

    device: str
    features: FeatureMap
    weights: Floats
    intercept_ms: float
    trees: BoostedTrees | None
    errors: HeldOutErrors
    floor_ms: float

    @classmethod
    def fit(
        cls, device: str, networks: Sequence[Architecture], latency_ms: Sequence[float] | Floats, seed: int = 0
    ) -> "CalibratedPredictor":
        """Fit to measured networks; columns, weighting, penalty and trees are chosen by cross-validation.

        Args:
            device: What was measured.
            networks: At least 20 networks of one space.
            latency_ms: What each took, above 0.
            seed: Decides folds and trees.

        Raises:
            EspalierError: There are too few networks, or a latency is not above 0.
        """
        latency = paired_latencies(networks, latency_ms, _FEWEST, "fitting a predictor needs")
        features = FeatureMap.learn(networks)
        matrix = features.matrix(networks)
        return _fit(device, features, matrix, latency, seed)

    def predict_ms(self, networks: Sequence[Architecture]) -> Floats:
        """Milliseconds of each network, shape (networks,)."""
        return self.predict_rows_ms(feature_rows(networks))

    def predict_rows_ms(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        """The same from `feature_rows`, so that several predictors can share them."""
        matrix = self.features.matrix_of_rows(rows)
        total = matrix @ self.weights + self.intercept_ms
        if self.trees is not None:
            total = total + self.trees.predict(matrix)
        return np.maximum(total, self.floor_ms)

    def estimate(self, network: Architecture) -> Estimate:
        """One network's latency in milliseconds with its standard deviation."""
        (value,) = self.predict_ms([network])
        return Estimate(
            float(value), float(value) * self.errors.relative_std, "modelled", f"{self.device} calibrated predictor"
        )

    def interval_ms(self, networks: Sequence[Architecture], coverage: float = 0.9) -> tuple[Floats, Floats]:
        """Bounds between which the measurement lies with probability `coverage`, each of shape (networks,).

        Args:
            networks: Of the space that the predictor was fitted to.
            coverage: Between 0 and 1.
        """
        predicted = self.predict_ms(networks)
        margin = self.errors.margin(coverage)
        return np.maximum(0.0, predicted * (1 - margin)), predicted * (1 + margin)


@dataclass(frozen=True, eq=False)
class _Recipe:
    """What is fitted: to which columns, and whether relative or absolute errors are minimised."""

    columns: NDArray[np.int64]
    is_relative: bool

    def row_weights(self, latency: Floats) -> Floats:
        if not self.is_relative:
            return np.ones(len(latency))
        weights: Floats = latency**-2.0
        return np.asarray(weights / weights.mean())

    def ridge(self, matrix: Floats, latency: Floats) -> tuple[Floats, float]:
        """Weights of all columns, 0 where the recipe leaves one out, and the intercept."""
        model = RidgeCV(alphas=_ALPHAS).fit(matrix[:, self.columns], latency, sample_weight=self.row_weights(latency))
        weights = np.zeros(matrix.shape[1])
        weights[self.columns] = model.coef_
        return weights, float(model.intercept_)


def _fit(device: str, features: FeatureMap, matrix: Floats, latency: Floats, seed: int) -> CalibratedPredictor:
    floor = 0.5 * float(latency.min())
    linear = {recipe: _held_out(recipe, matrix, latency, floor, seed) for recipe in _recipes(features)}
    recipe = min(linear, key=lambda one: _error(linear[one], latency))
    predicted = linear[recipe]
    weights, intercept = recipe.ridge(matrix, latency)
    trees = None
    boosted = _held_out(recipe, matrix, latency, floor, seed, with_trees=True)
    before = _error(predicted, latency)
    if _error(boosted, latency) < min(before - _WORTH, (1 - _WORTH_SHARE) * before):
        predicted = boosted
        trees = _left_over(recipe, matrix, latency, seed)
    return CalibratedPredictor(device, features, weights, intercept, trees, HeldOutErrors.of(latency, predicted), floor)


def _recipes(features: FeatureMap) -> Iterator[_Recipe]:
    for prefixes in _COLUMN_SETS:
        columns = features.starting_with(*prefixes)
        if len(columns):
            yield from (_Recipe(columns, is_relative) for is_relative in (True, False))


def _held_out(
    recipe: _Recipe, matrix: Floats, latency: Floats, floor: float, seed: int, with_trees: bool = False
) -> Floats:
    """Each network's prediction by a model that was fitted to the other folds."""
    predicted = np.empty(len(latency))
    for fit, rest in KFold(_FOLDS, shuffle=True, random_state=seed).split(matrix):
        weights, intercept = recipe.ridge(matrix[fit], latency[fit])
        predicted[rest] = matrix[rest] @ weights + intercept
        if with_trees:
            predicted[rest] += _left_over(recipe, matrix[fit], latency[fit], seed).predict(matrix[rest])
    return np.maximum(predicted, floor)


def _left_over(recipe: _Recipe, matrix: Floats, latency: Floats, seed: int) -> BoostedTrees:
    """Trees on what the linear part misses on networks that it was not fitted to."""
    missed = np.empty(len(latency))
    for fit, rest in KFold(_FOLDS, shuffle=True, random_state=seed + 1).split(matrix):
        weights, intercept = recipe.ridge(matrix[fit], latency[fit])
        missed[rest] = latency[rest] - matrix[rest] @ weights - intercept
    return fit_trees(matrix, missed, recipe.row_weights(latency), seed)


def _error(predicted: Floats, latency: Floats) -> float:
    """Mean ratio of prediction and measurement on a logarithmic scale, on which twice and half weigh the same."""
    return float(np.mean(np.abs(np.log(predicted / latency))))
