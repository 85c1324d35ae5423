"""Accuracy of plans that were not evaluated: Bayesian regression of its logit on choices and layer errors."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .codes import Walks, WalkTables

__all__ = ["AccuracySurrogate", "FeatureMap", "Scales", "logit"]

Floats = NDArray[np.float64]

#: Accuracies are moved this far from 0 and 1 before the logit.
_EDGE = 2e-3

#: Errors below this change nothing that could be seen.
_SMALLEST_ERROR = 0.02

#: Power of the errors that adds up over the sites.
_EXPONENT = 1.5

#: The prior variance of the constant, in squared logits: as good as unknown.
_CONSTANT_VARIANCE = 25.0

#: Sites that two plans decide differently after which they tell little of each other.
_REACH = 2.0


def logit(accuracies: Floats) -> Floats:
    """log(a / (1 - a)), finite at 0 and 1."""
    clipped = np.clip(accuracies, _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))


@dataclass(frozen=True)
class Scales:
    """Prior variances of what a logit is made of, in squared logits.

    Attributes:
        choices: Each choice at each site by itself.
        errors: Each site's error, with a slope per site.
        summaries: Sum of the errors to the power 1.5, its logarithm, and the logarithm of the largest error.
        interactions: What is shared only with plans that differ at few sites.
        noise: What nothing explains.
    """

    choices: float = 0.5
    errors: float = 2.0
    summaries: float = 2.0
    interactions: float = 0.25
    noise: float = 0.02


class FeatureMap:
    """Walks as vectors: choices one-hot, each site's error, and summaries of the errors.

    Args:
        tables: Of the space.
        has_errors: Whether errors and summaries take part; without them nothing is known before an evaluation.
        rng: Draws the walks that the features are standardised on.
    """

    def __init__(self, tables: WalkTables, has_errors: bool, rng: np.random.Generator) -> None:
        self._tables = tables
        self._has_errors = has_errors
        self._mean, self._spread = np.zeros(3), np.ones(3)
        drawn = self._summaries(tables.errors(tables.random(512, rng)))
        self._mean, self._spread = drawn.mean(0), drawn.std(0) + 1e-9

    def __call__(self, walks: Walks) -> tuple[Floats, Floats, Floats]:
        """One-hot choices, errors, standardised summaries, each with a row per canonical walk."""
        positions = self._tables.open_positions
        hot = [walks[:, [p]] == np.arange(self._tables.counts[p]) for p in positions]
        errors = self._tables.errors(walks) * self._has_errors
        return np.concatenate(hot, 1).astype(float), errors[:, positions], self._summaries(errors)

    def _summaries(self, errors: Floats) -> Floats:
        total, largest = (errors**_EXPONENT).sum(1), errors.max(1)
        columns = (total, np.log(total + _SMALLEST_ERROR**_EXPONENT), np.log(largest + _SMALLEST_ERROR))
        return (np.stack(columns, 1) - self._mean) / self._spread


class AccuracySurrogate:
    """A Gaussian process whose kernel is that of Bayesian ridge regression, and a part for interactions.

    y = b + w1 . onehot + w2 . errors + w3 . summaries + g(plan) + noise, where y is the logit of the accuracy,
    each w is normal with a variance of its own, and g has the covariance exp(-d / reach) between plans that differ at d
    sites. The variances maximise the marginal likelihood (Rasmussen and Williams 2006, eq. 5.8), one after the other on
    a grid of factors.

    Args:
        features: Of walks.
        scales: Variances to start from; 0 leaves a part out for good.
    """

    def __init__(self, features: FeatureMap, scales: Scales | None = None) -> None:
        self._features = features
        self.scales = scales or Scales()
        self._known: tuple[Floats, ...] = ()
        self._targets: Floats = np.zeros(0)
        self._gram: dict[str, Floats] = {}

    def fit(self, walks: Walks, targets: Floats) -> None:
        """Learn from evaluated plans; starts from the scales of the last fit.

        Args:
            walks: Canonical, shape (n, sites).
            targets: Logits of their accuracies, shape (n,).
        """
        self._known = self._features(walks)
        self._targets = targets
        self._gram = self._kernels(self._known, self._known)
        self.scales = _ascend(self._evidence, self.scales)
        self._factorise(self.scales)

    def imagining(self, walks: Walks) -> "AccuracySurrogate":
        """The same after evaluations of walks that would give just what is expected: only the doubt shrinks.

        Such a posterior spreads a batch of proposals (Desautels et al. 2014, GP-BUCB).
        """
        twin = AccuracySurrogate(self._features, self.scales)
        pairs = zip(self._known, self._features(walks), strict=True)
        twin._known = tuple(np.concatenate(pair) for pair in pairs)
        twin._targets = np.concatenate([self._targets, self.predict(walks)[0]])
        twin._gram = self._kernels(twin._known, twin._known)
        twin._factorise(self.scales)
        return twin

    def _kernels(self, a: tuple[Floats, ...], b: tuple[Floats, ...]) -> dict[str, Floats]:
        """The kernel of each part under unit variance."""
        agreeing = a[0] @ b[0].T  # number of sites decided alike
        sites = a[1].shape[1]
        return {
            "choices": agreeing,
            "errors": a[1] @ b[1].T,
            "summaries": a[2] @ b[2].T,
            "interactions": np.exp((agreeing - sites) / _REACH),
        }

    def _mixed(self, kernels: dict[str, Floats], scales: Scales) -> Floats:
        parts = (getattr(scales, name) * kernel for name, kernel in kernels.items())
        total: Floats = sum(parts, np.full_like(kernels["choices"], _CONSTANT_VARIANCE))
        return total

    def _factorise(self, scales: Scales) -> None:
        covariance = self._mixed(self._gram, scales) + scales.noise * np.eye(len(self._targets))
        self._root = np.linalg.cholesky(covariance)
        self._inverse_root = np.linalg.inv(self._root)
        self._whitened = self._inverse_root @ self._targets
        self._weights = self._inverse_root.T @ self._whitened

    def _evidence(self, scales: Scales) -> float:
        """Log marginal likelihood up to a constant, with a weak preference for variances of order one."""
        covariance = self._mixed(self._gram, scales) + scales.noise * np.eye(len(self._targets))
        try:
            root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return -np.inf
        whitened = np.linalg.solve(root, self._targets)
        return float(-0.5 * whitened @ whitened - np.log(np.diag(root)).sum())

    def predict(self, walks: Walks) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the logits of canonical walks, without noise, each of shape (walks,)."""
        features = self._features(walks)
        kernel = self._mixed(self._kernels(features, self._known), self.scales)
        mean = kernel @ self._weights
        own = _CONSTANT_VARIANCE + self.scales.choices * features[1].shape[1] + self.scales.interactions
        own = own + self.scales.errors * (features[1] ** 2).sum(1) + self.scales.summaries * (features[2] ** 2).sum(1)
        explained = ((kernel @ self._inverse_root.T) ** 2).sum(1)
        return mean, np.sqrt(np.maximum(own - explained, 1e-12))


def _ascend(value: Callable[[Scales], float], start: Scales, rounds: int = 2) -> Scales:
    """Coordinate ascent over factors of each scale; a scale of 0 stays."""
    best, highest = start, value(start)
    for _ in range(rounds):
        before = best
        for name in vars(start):
            for factor in (0.25, 0.5, 2.0, 4.0):
                scale = getattr(best, name) * factor
                if not 1e-4 < scale < 1e2:
                    continue
                tried = replace(best, **{name: scale})
                if (reached := value(tried)) > highest:
                    best, highest = tried, reached
        if best == before:
            break
    return best
