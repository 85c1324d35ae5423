"""A latency as a sum of non-negative prices of work, fitted to what was measured."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from ...errors import EspalierError
from ...graph.opspec import FREE_KINDS, OpSpec
from ..predictors.measurement import Measurement
from .work import TERMS, operator_class, work

__all__ = ["HeldOut", "LinearModel", "fit_prices", "held_out"]

Array = NDArray[np.float64]


def fit_prices(amounts: Array, values: Array) -> Array:
    """Prices, at least 0 each, whose weighted sums come nearest to positive values, by relative squares.

    Non-negative least squares (Lawson and Hanson 1974): as no price is negative, no sum falls when an amount grows.

    Args:
        amounts: Shape (measurements, terms), at least 0.
        values: Shape (measurements,), above 0.

    Returns:
        Shape (terms,); 0 where all amounts are 0.
    """
    relative = amounts / values[:, None]
    scale = relative.max(axis=0, initial=0.0)
    scale[scale == 0] = 1.0
    fitted = LinearRegression(positive=True, fit_intercept=False).fit(relative / scale, np.ones(len(values)))
    prices: Array = fitted.coef_ / scale
    return prices


@dataclass(frozen=True)
class LinearModel:
    """What a device asks for work, by class of operator; a network costs the sum of its operators.

    Attributes:
        prices: Class of operator (`operator_class`) -> term of work (`TERMS`) -> price, at least 0.
    """

    prices: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        for name, terms in self.prices.items():
            if unknown := sorted(set(terms) - set(TERMS)):
                raise EspalierError(f"prices.{name} has the unknown term {unknown[0]!r}; known: {', '.join(TERMS)}")
            if wrong := [term for term, price in terms.items() if not 0 <= price < np.inf]:
                raise EspalierError(f"prices.{name}.{wrong[0]} must be a number of at least 0, got {terms[wrong[0]]}")

    def knows(self, spec: OpSpec) -> bool:
        """Whether operators of this class were measured."""
        return spec.kind in FREE_KINDS or operator_class(spec) in self.prices

    def operator(self, spec: OpSpec) -> float:
        """The price of one operator.

        Raises:
            EspalierError: No operator of its class was measured.
        """
        if spec.kind in FREE_KINDS:
            return 0.0
        name = operator_class(spec)
        if name not in self.prices:
            known = ", ".join(sorted(self.prices))
            raise EspalierError(f"no operator like {spec.key} was measured; measured classes: {known}")
        return self.operator_as(spec, name)

    def operator_as(self, spec: OpSpec, name: str) -> float:
        """The price of one operator at the prices of the class `name`, which must be known."""
        amounts = work(spec)
        return sum(price * amounts[term] for term, price in self.prices[name].items())

    def together(self, specs: Iterable[OpSpec]) -> float:
        """The price of several operators.

        Raises:
            EspalierError: No operator of one's class was measured.
        """
        return sum(map(self.operator, specs))

    @classmethod
    def fit(cls, measurements: Sequence[Measurement]) -> "LinearModel":
        """Fit prices to operators that were measured alone or together.

        Args:
            measurements: Those of no latency are left out.

        Raises:
            EspalierError: There is nothing to fit to.
        """
        timed = [m for m in measurements if m.latency_ms > 0]
        if not timed:
            raise EspalierError("prices cannot be fitted: nothing of a latency above 0 was measured")
        classes = sorted({operator_class(op) for m in timed for op in m.ops if op.kind not in FREE_KINDS})
        columns = {(name, term): index for index, (name, term) in enumerate((c, t) for c in classes for t in TERMS)}
        amounts = np.zeros((len(timed), len(columns)))
        for row, measurement in zip(amounts, timed, strict=True):
            for op in measurement.ops:
                for term, amount in () if op.kind in FREE_KINDS else work(op).items():
                    row[columns[operator_class(op), term]] += amount
        fitted = fit_prices(amounts, np.array([m.latency_ms for m in timed]))
        found = {key: float(price) for key, price in zip(columns, fitted, strict=True) if price > 0}
        return cls({name: {t: found[name, t] for t in TERMS if (name, t) in found} for name in classes})


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A measurement, and what prices that were fitted to others say of it.

    Attributes:
        measurement: What was left out.
        error: Predicted over measured latency, minus 1.
        dearest: Class of operator that takes the largest part of the prediction.
    """

    measurement: Measurement
    error: float
    dearest: str


def held_out(
    measurements: Sequence[Measurement], group: Callable[[Measurement], object] = lambda m: m.label
) -> list[HeldOut]:
    """How far off the prices are at what they were not fitted to.

    Args:
        measurements: What was measured.
        group: What is left out together; by default each measurement is a group of its own.

    Returns:
        One for each measurement of a latency above 0, where every class of its operators was measured in other groups,
        too.
    """
    groups: dict[object, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        if measurement.latency_ms > 0:
            groups[group(measurement)].append(measurement)
    found: list[HeldOut] = []
    for left_out, tested in groups.items():
        rest = [m for name, members in groups.items() if name != left_out for m in members]
        if rest:
            model = LinearModel.fit(rest)
            found += [_held_out(m, model) for m in tested if all(map(model.knows, m.ops))]
    return found


def _held_out(measurement: Measurement, model: LinearModel) -> HeldOut:
    shares: dict[str, float] = defaultdict(float)
    for op in measurement.ops:
        shares[operator_class(op)] += model.operator(op)
    return HeldOut(
        measurement, sum(shares.values()) / measurement.latency_ms - 1, max(shares, key=lambda name: shares[name])
    )
