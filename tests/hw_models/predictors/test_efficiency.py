"""Coefficients per kind of operator, against latencies that were made from known ones."""

import numpy as np
import pytest
from espalier.errors import EspalierError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.efficiency import Efficiency
from espalier.hw_models.predictors.efficiency_fit import fit_efficiency
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.spaces.architecture import convolution

_TRUE = Efficiency(
    0.5,
    {
        "conv2d_1x1": {"count": 0.02, "mmacs": 0.4},
        "conv2d_3x3": {"mmacs": 0.1, "read_mb": 0.3, "written_mb": 0.2},
        "depthwise_3x3": {"mmacs": 2.0},
    },
    {},
)


def _operators(rng: np.random.Generator) -> tuple[OpSpec, ...]:
    ops = []
    for _ in range(rng.integers(2, 9)):
        size, inputs, outputs = (int(rng.choice(some)) for some in ((8, 16, 32), (8, 16, 24, 32), (8, 16, 24, 32)))
        kind = rng.integers(3)
        if kind == 0:
            ops.append(convolution(size, inputs, outputs, 1))
        elif kind == 1:
            ops.append(convolution(size, inputs, outputs, 3))
        else:
            ops.append(convolution(size, inputs, inputs, 3, groups=inputs))
    return tuple(ops)


def _measurements(count: int, seed: int, noise: float = 0.0) -> list[Measurement]:
    rng = np.random.default_rng(seed)
    drawn = [_operators(rng) for _ in range(count)]
    return [Measurement(ops, _TRUE.latency_ms(ops) * rng.normal(1, noise)) for ops in drawn]


def test_what_operators_take_is_found_again() -> None:
    fitted, errors = fit_efficiency(_measurements(300, 0))
    unseen = _measurements(100, 1)
    predicted = [fitted.latency_ms(one.ops) for one in unseen]
    assert predicted == pytest.approx([one.latency_ms for one in unseen], rel=0.02)
    assert errors.mean_error < 0.01
    for op in (convolution(16, 24, 24, 3, groups=24), convolution(16, 24, 24, 1), convolution(16, 24, 24, 3)):
        assert fitted.latency_ms([op]) == pytest.approx(_TRUE.latency_ms([op]), rel=0.05)


def test_the_error_of_noisy_measurements_is_known_and_outliers_do_not_turn_the_fit() -> None:
    noisy = _measurements(400, 0, noise=0.05)
    wrong = [Measurement(one.ops, 8 * one.latency_ms) for one in noisy[:12]]
    fitted, errors = fit_efficiency([*wrong, *noisy[12:]])
    assert errors.relative_std == pytest.approx(0.05, rel=0.35)
    unseen = _measurements(100, 1)
    error = [fitted.latency_ms(one.ops) / one.latency_ms - 1 for one in unseen]
    assert np.mean(np.abs(error)) < 0.03


def test_a_constant_gets_no_coefficient_of_its_own() -> None:
    """Every network ends in the same linear layer, so that nothing tells what such layers take."""
    head = OpSpec("linear", (32,), (10,), bias=True)
    fitted, _ = fit_efficiency([Measurement((*m.ops, head), m.latency_ms) for m in _measurements(100, 0)])
    assert "linear" not in fitted.kinds
    assert fitted.coefficients("linear") == fitted.other
    assert all(value >= 0 for kind in fitted.kinds.values() for value in kind.values())


def test_a_kind_that_only_one_measurement_has_does_not_spoil_the_cross_validation() -> None:
    """While it is left out nothing tells what it takes, but what all kinds share."""
    single = {op: Measurement((op,), 0.01 + 1e-7 * op.macs) for m in _measurements(30, 2) for op in m.ops}
    head = OpSpec("linear", (64,), (10,), bias=True)
    _, errors = fit_efficiency([*single.values(), Measurement((head,), 0.01 + 1e-7 * head.macs)], has_overhead=False)
    assert errors.mean_error < 0.05


def test_single_operators_and_networks_are_fitted_together() -> None:
    single = [Measurement((op,), _TRUE.latency_ms((op,))) for m in _measurements(30, 2) for op in m.ops]
    fitted, _ = fit_efficiency([*single, *_measurements(50, 0)])
    op = convolution(16, 16, 16, 3)
    assert fitted.latency_ms([op]) == pytest.approx(_TRUE.latency_ms([op]), rel=0.05)


def test_kinds_that_were_not_measured_take_after_the_nearest_kernel_of_their_family() -> None:
    some = Efficiency(
        0, {"conv2d_3x3": {"count": 3}, "conv2d_7x7": {"count": 7}, "depthwise_3x3": {"count": 1}}, {"count": 9}
    )
    nearest = {"conv2d_5x5": 3, "conv2d_6x6": 7, "conv2d_11x11": 7, "depthwise_5x5": 1, "grouped_3x3": 9, "gru": 9}
    assert {kind: some.coefficients(kind)["count"] for kind in nearest} == nearest
    assert some.coefficients("max_pool2d") == {"count": 9}


def test_blocks_hold_no_overhead() -> None:
    per_block = [Measurement(m.ops, m.latency_ms - _TRUE.overhead_ms) for m in _measurements(60, 0)]
    fitted, errors = fit_efficiency(per_block, has_overhead=False)
    assert fitted.overhead_ms == 0
    assert errors.mean_error < 1e-6
    for one in per_block:
        assert fitted.latency_ms(one.ops) == pytest.approx(one.latency_ms, rel=1e-3)
        assert sum(map(fitted.operator_ms, one.ops)) == pytest.approx(fitted.latency_ms(one.ops))


def test_two_measurements_share_their_coefficients() -> None:
    """Too few amounts to tell kinds apart, yet what was measured is found again."""
    wide, narrow = convolution(16, 32, 32, 1), convolution(16, 8, 8, 1)
    fitted, _ = fit_efficiency([Measurement((op,), 1e-6 * op.macs) for op in (wide, narrow)], has_overhead=False)
    assert not fitted.kinds
    assert fitted.latency_ms([wide, narrow]) == pytest.approx(1e-6 * (wide.macs + narrow.macs), rel=1e-3)
    alone, errors = fit_efficiency([Measurement((wide,), 0.5)], has_overhead=False)
    assert alone.latency_ms([wide]) == pytest.approx(0.5)
    assert errors.mean_error == 1


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(EspalierError, match="efficiencies cannot be fitted: no operator was measured"):
        fit_efficiency([Measurement((), 1.0)])
    some = _measurements(30, 0)
    with pytest.raises(EspalierError, match="needs latencies above 0 ms"):
        fit_efficiency([*some, Measurement(some[0].ops, -1.0)])


def _three_times_as_slow(seed: int, count: int) -> list[Measurement]:
    """A device like the known one, three times as slow, and six times where a kernel is 1x1."""
    kinds = {kind: {name: 3 * value for name, value in values.items()} for kind, values in _TRUE.kinds.items()}
    kinds["conv2d_1x1"] = {"count": 0.12, "mmacs": 2.4}
    slow = Efficiency(1.5, kinds, {})
    rng = np.random.default_rng(seed)
    drawn = [_operators(rng) for _ in range(count)]
    return [Measurement(ops, slow.latency_ms(ops)) for ops in drawn]


def test_a_handful_of_networks_suffices_where_a_similar_device_is_known() -> None:
    few, unseen = _three_times_as_slow(0, 10), _three_times_as_slow(1, 200)

    def error(fitted: Efficiency) -> float:
        return float(np.mean([abs(fitted.latency_ms(one.ops) / one.latency_ms - 1) for one in unseen]))

    with_it, errors = fit_efficiency(few, like=_TRUE)
    alone, _ = fit_efficiency(few)
    assert error(with_it) < 0.1
    assert error(with_it) < error(alone) / 2
    assert errors.mean_error < 0.2


def test_what_no_network_holds_is_the_similar_devices_times_one_factor() -> None:
    known = Efficiency(0.5, {**_TRUE.kinds, "linear": {"mmacs": 0.7}}, {"read_mb": 0.25})
    few = [Measurement(one.ops, 2 * one.latency_ms) for one in _measurements(12, 0)]
    fitted, _ = fit_efficiency(few, like=known)
    assert fitted.kinds["linear"]["mmacs"] == pytest.approx(1.4, rel=1e-3)
    assert fitted.other == pytest.approx({"read_mb": 0.5}, rel=1e-3)
    assert fitted.latency_ms(few[0].ops) == pytest.approx(few[0].latency_ms, rel=1e-3)


def test_a_similar_device_without_figures_is_refused() -> None:
    with pytest.raises(EspalierError, match="some of the measured networks take no time"):
        fit_efficiency(_measurements(6, 0), like=Efficiency(0.0, {}, {}))
