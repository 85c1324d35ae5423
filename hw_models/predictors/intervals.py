"""Prediction intervals from the errors on networks that took no part in the fit."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeldOutErrors"]

Floats = NDArray[np.float64]

#: Errors that are kept of more; their quantiles are what matters.
_KEPT = 400


@dataclass(frozen=True)
class HeldOutErrors:
    """Relative errors measured / predicted - 1 on networks that the model had not seen.

    Where errors on new networks are drawn as these were, an interval that is as wide as a quantile of their sizes holds
    the measurement with the probability asked for, whatever their distribution: conformal prediction (Vovk et al.
    2005), here with the errors of cross-validation (Barber et al. 2021, arXiv 1905.02928).

    Attributes:
        relative: The errors in ascending order, shape (errors,).
    """

    relative: Floats

    @classmethod
    def of(cls, measured: Floats, predicted: Floats) -> "HeldOutErrors":
        """The errors of predictions above 0; of many, evenly spread quantiles."""
        relative = np.sort(measured / predicted - 1.0)
        if len(relative) > _KEPT:
            relative = np.quantile(relative, np.linspace(0.0, 1.0, _KEPT))
        return cls(relative)

    @property
    def relative_std(self) -> float:
        """Standard deviation of a prediction as a share of it: half of what the middle 68 % of the errors span.

        A few networks that were measured wrongly do not widen it.
        """
        low, high = np.quantile(self.relative, [0.1587, 0.8413])
        return float(high - low) / 2

    @property
    def mean_error(self) -> float:
        """Mean size of the errors."""
        return float(np.mean(np.abs(self.relative)))

    def margin(self, coverage: float) -> float:
        """The share of a prediction by which the measurement is missed with probability 1 - `coverage` at most.

        Args:
            coverage: Between 0 and 1. Where there are too few errors for it, the margin is infinite.
        """
        sizes = np.sort(np.abs(self.relative))
        rank = math.ceil(coverage * (len(sizes) + 1))
        return float(sizes[rank - 1]) if rank <= len(sizes) else math.inf
