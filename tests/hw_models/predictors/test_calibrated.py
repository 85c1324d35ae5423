"""Fits to latencies whose formula is known, and intervals against counted coverage."""

import math
from pathlib import Path

import numpy as np
import pytest
from espalier.errors import EspalierError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.calibrated import CalibratedPredictor
from espalier.hw_models.predictors.features import FeatureMap
from espalier.hw_models.predictors.intervals import HeldOutErrors
from espalier.hw_models.predictors.trees import BoostedTrees, fit_trees
from espalier.hw_models.predictors.work import operator_work, work_kind, work_table
from espalier.hw_models.spaces.architecture import Architecture, convolution
from espalier.hw_models.spaces.fbnet import FbnetSpace
from espalier.hw_models.spaces.hat import HAT_NUMBERS
from espalier.hw_models.spaces.latency_csv import read_latency_csv
from sklearn.ensemble import GradientBoostingRegressor

from tests.hw_models.predictors.synthetic import additive_ms, interacting_ms, network, networks

_FIT, _NEW = networks(150), networks(200, seed=1)


def _relative(predictor: CalibratedPredictor, latency: np.ndarray) -> float:
    return float(np.mean(np.abs(predictor.predict_ms(_NEW) / latency - 1)))


def test_a_sum_over_positions_is_recovered() -> None:
    predictor = CalibratedPredictor.fit("d", _FIT, additive_ms(_FIT))
    assert _relative(predictor, additive_ms(_NEW)) < 1e-3
    assert predictor.trees is None


def test_trees_learn_what_no_sum_can_give() -> None:
    """The ablation: without its trees the same predictor is several times as wrong."""
    fit = networks(400)
    predictor = CalibratedPredictor.fit("d", fit, interacting_ms(fit))
    latency = interacting_ms(_NEW)
    matrix = predictor.features.matrix(_NEW)
    linear = np.mean(np.abs((matrix @ predictor.weights + predictor.intercept_ms) / latency - 1))
    assert predictor.trees is not None
    assert _relative(predictor, latency) < 0.5 * linear


def test_numbers_are_fitted_with_their_products() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.uniform(1, 8, (120, 2))
    some = [Architecture("", {"width": float(w), "layers": float(n)}) for w, n in sizes]
    latency = 5 + 2 * sizes[:, 0] * sizes[:, 1] + 0.5 * sizes[:, 0] ** 2
    predictor = CalibratedPredictor.fit("d", some[:90], latency[:90])
    assert predictor.predict_ms(some[90:]) == pytest.approx(latency[90:], rel=0.05)
    assert len(HAT_NUMBERS) == 10


def test_intervals_hold_as_many_measurements_as_they_say() -> None:
    """Noise of 5 %, 2,000 new networks: the share that is held is binomial, three standard deviations are 0.03."""
    rng = np.random.default_rng(0)
    fit, new = networks(300, seed=2), networks(2000, seed=3)
    predictor = CalibratedPredictor.fit("d", fit, additive_ms(fit) * rng.normal(1, 0.05, 300))
    measured = additive_ms(new) * rng.normal(1, 0.05, 2000)
    for coverage in (0.5, 0.8, 0.9):
        low, high = predictor.interval_ms(new, coverage)
        held = np.mean((low <= measured) & (measured <= high))
        assert held == pytest.approx(coverage, abs=0.05)
    assert predictor.errors.relative_std == pytest.approx(0.05, rel=0.2)


def test_an_estimate_says_how_sure_it_is() -> None:
    rng = np.random.default_rng(0)
    predictor = CalibratedPredictor.fit("pixel", _FIT, additive_ms(_FIT) * rng.normal(1, 0.1, len(_FIT)))
    estimate = predictor.estimate(_NEW[0])
    assert estimate.kind == "modelled"
    assert estimate.on == "pixel calibrated predictor"
    assert estimate.std == pytest.approx(0.1 * estimate.value, rel=0.3)
    assert estimate.value == predictor.predict_ms(_NEW[:1])[0]


def test_the_same_seed_fits_the_same() -> None:
    latency = interacting_ms(_FIT[:60])
    first, second = (CalibratedPredictor.fit("d", _FIT[:60], latency, seed=3).predict_ms(_NEW) for _ in range(2))
    assert (first == second).all()


def test_predictions_never_fall_below_half_of_the_least_measurement() -> None:
    fit = [network(["deep"] * k + ["none"] * (6 - k)) for k in range(2, 7) for _ in range(6)]
    # Noise, so that cross-validation has no ties between sets of columns that all fit exactly.
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=len(fit)))
    latency = np.array([10.0 * one.label.count("deep") - 19 for one in fit]) * noise
    predictor = CalibratedPredictor.fit("d", fit, latency)
    assert predictor.predict_ms([network(["none"] * 6)])[0] == latency.min() / 2


@pytest.mark.parametrize(
    ("count", "latency", "match"),
    [
        (19, np.ones(19), "at least 20 networks with a latency each, got 19 networks and 19"),
        (30, np.ones(29), "got 30 networks and 29 latencies"),
        (30, np.zeros(30), "needs latencies above 0 ms"),
        (30, np.full(30, np.nan), "needs latencies above 0 ms"),
    ],
)
def test_what_cannot_be_fitted_is_refused(count: int, latency: np.ndarray, match: str) -> None:
    with pytest.raises(EspalierError, match=match):
        CalibratedPredictor.fit("d", networks(count), latency)


def test_columns_are_what_their_names_say() -> None:
    some = [network(["wide", "none", "none", "none", "none", "none"]), network(["wide"] * 6), network(["deep"] * 6)]
    features = FeatureMap.learn(some)
    raw = features.matrix(some) * features.scale + features.mean
    column = dict(zip(features.columns, raw.T, strict=True))
    assert column["n|slot|wide"].tolist() == pytest.approx([1, 6, 0])
    assert column["is|slot 1|wide"].tolist() == pytest.approx([0, 1, 0])
    assert column["is|slot 0|wide"].tolist() == pytest.approx([1, 1, 0])
    assert column["work|add|count"].tolist() == pytest.approx([1, 6, 0])
    macs = 16 * 16 * 8 * 8 * 9 * 1e-6
    assert column["work|conv2d_3x3|mmacs"] - 16 * 16 * 3 * 8 * 9e-6 == pytest.approx([macs, 6 * macs, 0])
    assert features.matrix(some).mean(axis=0) == pytest.approx(0, abs=1e-9)
    # a word that no example had counts nothing
    assert np.isfinite(features.matrix([Architecture("", {"slot 0": "new"})])).all()
    assert features.columns[features.starting_with("work|add")[0]] == "work|add|count"


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (convolution(8, 4, 8, 3), "conv2d_3x3"),
        (convolution(8, 4, 4, 5, groups=4), "depthwise_5x5"),
        (convolution(8, 4, 8, 1, groups=2), "grouped_1x1"),
        (OpSpec("conv2d", (4, 1, 9), (4, 1, 9), (1, 3)), "conv2d_3x3"),
        (OpSpec("linear", (4,), (4,)), "linear"),
    ],
)
def test_convolutions_are_told_apart_by_what_engines_have_code_for(op: OpSpec, kind: str) -> None:
    assert work_kind(op) == kind


def test_work_is_counted() -> None:
    op = convolution(10, 4, 8, 3)
    assert operator_work(op) == pytest.approx((1, 100 * 32 * 9e-6, 4 * 400e-6, 4 * 800e-6, 4 * (32 * 9 + 8) * 1e-6))
    assert operator_work(OpSpec("reshape", (8,), (8,))) == (0, 0, 0, 0, 0)
    assert work_table([op, op])["conv2d_3x3"] == pytest.approx(2 * np.array(operator_work(op)))


def test_trees_give_what_scikit_learn_gives() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(200, 5))
    target = np.sin(matrix[:, 0]) * matrix[:, 1]
    ours = fit_trees(matrix, target, np.ones(200), seed=4)
    theirs = GradientBoostingRegressor(
        n_estimators=120,
        max_depth=3,
        learning_rate=0.06,
        subsample=0.7,
        max_features=0.3,
        min_samples_leaf=5,
        init="zero",
        random_state=4,
    ).fit(matrix, target)
    assert ours.predict(matrix) == pytest.approx(theirs.predict(matrix), abs=1e-12)
    assert BoostedTrees.from_dict(ours.to_dict(), 5, "t").predict(matrix) == pytest.approx(ours.predict(matrix))


def test_margins_are_order_statistics() -> None:
    errors = HeldOutErrors(np.array([-0.4, -0.1, 0.0, 0.2, 0.3]))
    assert errors.margin(0.5) == 0.2  # the third of five sizes: ceil(0.5 * 6)
    assert errors.margin(0.8) == 0.4
    assert errors.margin(0.9) == math.inf  # five errors cannot tell
    assert errors.mean_error == pytest.approx(0.2)
    assert len(HeldOutErrors.of(np.linspace(1, 2, 5000), np.ones(5000)).relative) == 400


def test_a_device_of_the_fbnet_file_is_known_to_a_hundredth(data_root: Path) -> None:
    """Sums of a table: least squares finds them exactly (the README beside the data), and so does the predictor."""
    space = read_latency_csv(data_root / "fbnet_latency_ms.csv.gz", FbnetSpace())
    order = np.random.default_rng(0).permutation(5000)
    fit, new = ([space.architectures[index] for index in part] for part in (order[:350], order[350:700]))
    latency = space.latency_ms["pixel3"]
    predictor = CalibratedPredictor.fit("pixel3", fit, latency[order[:350]])
    assert predictor.predict_ms(new) == pytest.approx(latency[order[350:700]], rel=0.01)
