"""Ten measurements of an unseen device, against latencies whose formula is known."""

import numpy as np
import pytest
from espalier.errors import EspalierError
from espalier.hw_models.predictors.calibrated import CalibratedPredictor
from espalier.hw_models.predictors.few_shot import DevicePool
from espalier.hw_models.spaces.architecture import Architecture
from scipy.stats import spearmanr

from tests.hw_models.predictors.synthetic import networks, words

_CANDIDATES, _NEW = networks(60), networks(200, seed=1)
_BASE = np.random.default_rng(5).uniform(0.2, 2.0, (6, 4))


def _device(some: list[Architecture], index: int) -> np.ndarray:
    """Devices that share a table over positions and differ in how much each word takes."""
    stretch = np.random.default_rng(100 + index).uniform(0.3, 3.0, 4)
    return 1 + (_BASE * stretch)[np.arange(6), words(some)].sum(1)


def _counted(some: list[Architecture]) -> np.ndarray:
    """Unlike any of the pool: all that counts is how many words are "narrow", and "none" takes longest."""
    return 1 + np.array([5.0, 0.5, 1.0, 1.0])[words(some)].sum(1)


@pytest.fixture(scope="module")
def pool() -> DevicePool:
    fit = networks(60, seed=7)
    return DevicePool.of([CalibratedPredictor.fit(f"d{i}", fit, _device(fit, i)) for i in range(4)], _CANDIDATES)


def _measured(pool: DevicePool, chosen: list[int]) -> list[Architecture]:
    return [pool.candidates[index] for index in chosen]


def test_ten_measurements_rank_a_device_like_the_others(pool: DevicePool) -> None:
    measured = _measured(pool, pool.choose())
    assert len(measured) == 10
    predictor = pool.adapt("new", measured, _device(measured, 9))
    predicted, _ = predictor.predict_ms(_NEW)
    assert spearmanr(predicted, _device(_NEW, 9))[0] > 0.97
    # The ablation: the best device of the pool alone ranks worse.
    alone = [spearmanr(one.predict_ms(_NEW), _device(_NEW, 9))[0] for one in pool.predictors]
    assert max(alone) < spearmanr(predicted, _device(_NEW, 9))[0]


def test_a_device_unlike_the_others_is_described_by_counts(pool: DevicePool) -> None:
    measured = _measured(pool, pool.choose())
    predictor = pool.adapt("odd", measured, _counted(measured))
    assert spearmanr(predictor.predict_ms(_NEW)[0], _counted(_NEW))[0] > 0.95
    assert max(predictor.fits[0].weights) > 0


def test_chosen_networks_tell_more_than_alike_ones(pool: DevicePool) -> None:
    chosen = pool.choose(8)
    assert len(set(chosen)) == 8
    predicted = np.stack([one.predict_ms(pool.candidates) for one in pool.predictors], axis=1)
    assert np.linalg.det(np.cov(predicted[chosen].T)) > np.linalg.det(np.cov(predicted[:8].T))
    assert len(pool.choose(1000)) == len(_CANDIDATES)
    assert set(pool.choose(3, among=[4, 8, 15, 16, 23])) < {4, 8, 15, 16, 23}


def test_an_estimate_is_less_sure_far_from_what_was_measured(pool: DevicePool) -> None:
    measured = [one for one in _CANDIDATES if one.label.count("none") >= 1][:5]
    predictor = pool.adapt("new", measured, _device(measured, 9) * (1 + 0.02 * np.arange(5)))
    known, far = predictor.estimate(measured[0]), predictor.estimate(Architecture("", {}, ()))
    assert known.kind == far.kind == "modelled"
    assert known.on == "new from 5 measured networks and 4 devices"
    assert far.std / far.value > known.std / known.value > 0


def test_noise_is_seen(pool: DevicePool) -> None:
    """The measurements of a noisy device are trusted less, and its predictions say so."""
    measured = _measured(pool, pool.choose())
    clean = pool.adapt("new", measured, _device(measured, 9))
    noise = np.random.default_rng(0).normal(1, 0.3, 10)
    noisy = pool.adapt("new", measured, _device(measured, 9) * np.maximum(noise, 0.2))
    assert np.median(noisy.predict_ms(_NEW)[1]) > 2 * np.median(clean.predict_ms(_NEW)[1])


def test_one_wrong_measurement_does_not_turn_the_ranking(pool: DevicePool) -> None:
    measured = _measured(pool, pool.choose())
    latency = _device(measured, 9)
    latency[3] *= 3
    predicted, _ = pool.adapt("new", measured, latency).predict_ms(_NEW)
    assert spearmanr(predicted, _device(_NEW, 9))[0] > 0.95


def test_the_same_latency_everywhere_is_no_error(pool: DevicePool) -> None:
    measured = _measured(pool, pool.choose(3))
    values, _ = pool.adapt("flat", measured, [2.0, 2.0, 2.0]).predict_ms(_NEW)
    assert values == pytest.approx(2.0)


def test_what_cannot_be_known_is_refused(pool: DevicePool) -> None:
    with pytest.raises(EspalierError, match="at least one other device and 20 networks to choose from, got 0 and 60"):
        DevicePool.of([], _CANDIDATES)
    with pytest.raises(EspalierError, match="got 4 and 19"):
        DevicePool.of(pool.predictors, _CANDIDATES[:19])
    with pytest.raises(EspalierError, match="at least 3 networks with a latency each, got 2 networks and 2"):
        pool.adapt("d", _NEW[:2], [1.0, 2.0])
    with pytest.raises(EspalierError, match="latencies above 0 ms"):
        pool.adapt("d", _NEW[:3], [1.0, 2.0, float("inf")])
