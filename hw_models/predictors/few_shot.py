"""A device that nobody knows, from about ten measured networks and what many networks take on other devices.

A Gaussian process (Rasmussen and Williams 2006) whose kernel is linear in what other devices' predictors say of a
network, in how often each word stands in it, and in the work of its operators. Which of these count how much, and how
noisy the device is, is not known, nor whether one of the measurements is wrong: every combination of a grid counts by
how likely it makes the measurements. Devices like those of the pool need their columns only; one that is not (an
accelerator to which pooling costs as much as a convolution) is described by counts.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import EspalierError
from ..cost import Estimate
from ..spaces.architecture import Architecture
from .calibrated import CalibratedPredictor
from .features import FeatureMap, feature_rows
from .latencies import paired_latencies

__all__ = ["DevicePool", "FewShotPredictor"]

Floats = NDArray[np.float64]

_FEWEST = 3
#: Weight of counted words and numbers, weight of work, and variance of the noise; other devices weigh 1.
_COUNT_WEIGHTS, _WORK_WEIGHTS = (0.0, 0.1, 1.0), (0.0, 0.1, 0.3)
_NOISES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
#: How often a measurement is wrong (another program ran), and the variance that this adds to its noise.
_WRONG_SHARE, _WRONG_NOISE = 0.05, 10.0
#: Combinations that are less likely than this share of the likeliest are left out.
_NEGLIGIBLE = 0.01
#: With which networks are chosen before anything is measured.
_BEFOREHAND = (0.1, 0.2, 0.03)
#: Variance of a latency's mean, in units of the measured variance.
_LEVEL_VARIANCE = 1.0


@dataclass(frozen=True)
class DevicePool:
    """Other devices as fitted predictors, and the networks to choose from.

    Attributes:
        predictors: One for each device.
        features: Columns of words and work.
        mean_ms: Mean prediction of each device over the candidates, shape (devices,).
        scale_ms: Standard deviation of the same, shape (devices,).
        candidates: Networks that can be measured.
    """

    predictors: tuple[CalibratedPredictor, ...]
    features: FeatureMap
    mean_ms: Floats
    scale_ms: Floats
    candidates: tuple[Architecture, ...]

    @classmethod
    def of(cls, predictors: Sequence[CalibratedPredictor], candidates: Sequence[Architecture]) -> "DevicePool":
        """Gather what is known.

        Args:
            predictors: Of other devices, fitted to the same space.
            candidates: At least 20 networks of the space.

        Raises:
            EspalierError: There is no predictor, or too few candidates.
        """
        if not predictors or len(candidates) < 20:
            raise EspalierError(
                "a pool needs the predictor of at least one other device and 20 networks to choose from, got "
                f"{len(predictors)} and {len(candidates)}"
            )
        predicted = np.stack([one.predict_ms(candidates) for one in predictors], axis=1)
        scale = np.maximum(predicted.std(axis=0), 1e-9)
        return cls(tuple(predictors), FeatureMap.learn(candidates), predicted.mean(axis=0), scale, tuple(candidates))

    def blocks(self, networks: Sequence[Architecture]) -> tuple[Floats, Floats, Floats]:
        """Columns of other devices, of counts and of work, each block with a mean square length of 1."""
        rows = feature_rows(networks)
        predicted = np.stack([one.predict_rows_ms(rows) for one in self.predictors], axis=1)
        matrix = self.features.matrix_of_rows(rows)
        counts = matrix[:, self.features.starting_with("n|", "number|", "square|", "product|")]
        work = matrix[:, self.features.starting_with("work|")]
        devices = (predicted - self.mean_ms) / self.scale_ms
        return _unit(devices), _unit(counts), _unit(work)

    def choose(self, count: int = 10, among: Sequence[int] | None = None) -> list[int]:
        """Indices of the candidates that tell most: each is the one that those before it leave least sure.

        Args:
            count: How many networks will be measured.
            among: Indices of the candidates that can be measured; None for all.
        """
        open_to = list(range(len(self.candidates))) if among is None else list(among)
        *weights, noise = _BEFOREHAND
        columns = _weighted(self.blocks([self.candidates[index] for index in open_to]), *weights)
        kernel = columns @ columns.T
        chosen: list[int] = []
        for _ in range(min(count, len(open_to))):
            best = int(np.diag(kernel).argmax())
            chosen.append(open_to[best])
            told = kernel[:, best] / math.sqrt(kernel[best, best] + noise)
            kernel = kernel - np.outer(told, told)
        return chosen

    def adapt(
        self, device: str, networks: Sequence[Architecture], latency_ms: Sequence[float] | Floats
    ) -> "FewShotPredictor":
        """A predictor of a new device.

        Args:
            device: Its name.
            networks: At least three networks that were measured on it.
            latency_ms: What each took, above 0.

        Raises:
            EspalierError: There are too few networks, or a latency is not above 0.
        """
        latency = paired_latencies(networks, latency_ms, _FEWEST, "knowing a device takes")
        scale = float(latency.std()) or float(latency.mean())
        level = float(latency.mean())
        fits, shares = _likely_fits(self.blocks(networks), (latency - level) / scale)
        return FewShotPredictor(device, self, fits, shares, level, scale, 0.5 * float(latency.min()))


@dataclass(frozen=True)
class _Fit:
    """A Gaussian process on a handful of points.

    Attributes:
        columns: The points, shape (points, columns).
        weights: Weights of counts and work.
        noise: Variance of the noise in units of `variance`.
        inverse: Inverse of the kernel matrix with the noise, shape (points, points).
        answer: The inverse times the targets, shape (points,).
        variance: What the kernel is multiplied with: the value that makes the targets most likely.
        evidence: Logarithm of how likely the targets are and how likely a wrong measurement is, up to a constant.
    """

    columns: Floats
    weights: tuple[float, float]
    noise: float
    inverse: Floats
    answer: Floats
    variance: float
    evidence: float

    @classmethod
    def of(
        cls, columns: Floats, target: Floats, weights: tuple[float, float], noise: float, wrong: int | None
    ) -> "_Fit":
        noises = np.full(len(target), noise)
        if wrong is not None:
            noises[wrong] += _WRONG_NOISE
        kernel = columns @ columns.T + _LEVEL_VARIANCE + np.diag(noises)
        inverse: Floats = np.linalg.inv(kernel).astype(np.float64)
        answer = inverse @ target
        variance = max(float(target @ answer) / len(target), 1e-12)
        evidence = -0.5 * (len(target) * math.log(variance) + float(np.linalg.slogdet(kernel)[1]))
        evidence += 0.0 if wrong is None else math.log(_WRONG_SHARE)
        return cls(columns, weights, noise, inverse, answer, variance, evidence)

    def posterior(self, columns: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation at new points, given as weighted columns, each of shape (points,)."""
        across = columns @ self.columns.T + _LEVEL_VARIANCE
        before = (columns**2).sum(axis=1) + _LEVEL_VARIANCE + self.noise
        left = before - ((across @ self.inverse) * across).sum(axis=1)
        return across @ self.answer, np.sqrt(self.variance * np.maximum(left, 0.0))


def _likely_fits(blocks: tuple[Floats, Floats, Floats], target: Floats) -> tuple[tuple[_Fit, ...], Floats]:
    """The fits that the targets leave likely, the likeliest first, and their probabilities."""
    points: list[int | None] = [None, *range(len(target))]
    columns = {pair: _weighted(blocks, *pair) for pair in itertools.product(_COUNT_WEIGHTS, _WORK_WEIGHTS)}
    fits = [
        _Fit.of(columns[pair], target, pair, noise, wrong)
        for pair, noise, wrong in itertools.product(columns, _NOISES, points)
    ]
    fits.sort(key=lambda fit: -fit.evidence)
    shares = np.exp(np.array([fit.evidence for fit in fits]) - fits[0].evidence)
    likely = shares >= _NEGLIGIBLE
    return tuple(fits[: int(likely.sum())]), shares[likely] / shares[likely].sum()


@dataclass(frozen=True)
class FewShotPredictor:
    """Latency on a device of which a handful of networks were measured.

    Attributes:
        device: The device.
        pool: What is known of others.
        fits: Gaussian processes, the likeliest first.
        shares: Probability of each, shape (fits,).
        level_ms: Mean of the measurements.
        scale_ms: Standard deviation of the measurements.
        floor_ms: The least latency that is ever predicted: half the least that was measured.
    """

    device: str
    pool: DevicePool
    fits: tuple[_Fit, ...]
    shares: Floats
    level_ms: float
    scale_ms: float
    floor_ms: float

    def predict_ms(self, networks: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Milliseconds of each network and their standard deviations, each of shape (networks,)."""
        blocks = self.pool.blocks(networks)
        columns = {weights: _weighted(blocks, *weights) for weights in {fit.weights for fit in self.fits}}
        posteriors = [fit.posterior(columns[fit.weights]) for fit in self.fits]
        means, stds = (np.stack(parts) for parts in zip(*posteriors, strict=True))
        mean = self.shares @ means
        std = np.sqrt(self.shares @ (stds**2 + (means - mean) ** 2))
        value = np.maximum(self.level_ms + self.scale_ms * mean, self.floor_ms)
        # A handful of points can look free of noise. What the predictors of other devices miss, this one misses, too.
        missed = float(np.median([one.errors.relative_std for one in self.pool.predictors]))
        return value, np.hypot(self.scale_ms * std, missed * value)

    def estimate(self, network: Architecture) -> Estimate:
        """One network's latency in milliseconds with its standard deviation."""
        (value,), (std,) = self.predict_ms([network])
        measured = len(self.fits[0].columns)
        source = f"{self.device} from {measured} measured networks and {len(self.pool.predictors)} devices"
        return Estimate(float(value), float(std), "modelled", source)


def _unit(columns: Floats) -> Floats:
    return columns / math.sqrt(max(1, columns.shape[1]))


def _weighted(blocks: tuple[Floats, Floats, Floats], counts: float, work: float) -> Floats:
    return np.concatenate([blocks[0], math.sqrt(counts) * blocks[1], math.sqrt(work) * blocks[2]], axis=1)
