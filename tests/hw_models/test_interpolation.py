"""Estimates of operators that nobody measured: monotone, near what was left out, and labelled."""

from pathlib import Path

import numpy as np
import pytest
from espalier.errors import EspalierError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.efficiency import Efficiency
from espalier.hw_models.predictors.efficiency_fit import fit_efficiency
from espalier.hw_models.predictors.left_out import left_out_errors
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.predictors.nonnegative import nonnegative_least_squares
from espalier.hw_models.predictors.work import operator_class, operator_work
from espalier.hw_models.tables.curve import Curve
from espalier.hw_models.tables.formats import import_table
from espalier.hw_models.tables.interpolation import Interpolation
from espalier.hw_models.tables.sizes import SizeRange, matrix_product, passes
from hypothesis import given, settings
from hypothesis import strategies as st


def _dense(channels: int, out: int, size: int, kernel: int = 1, bits: int = 32) -> OpSpec:
    padding = (kernel // 2, kernel // 2)
    return OpSpec("conv2d", (channels, size, size), (out, size, size), (kernel, kernel), padding=padding, bits=bits)


def _depthwise(channels: int, size: int, kernel: int = 3) -> OpSpec:
    return _dense(channels, channels, size, kernel).replace(groups=channels)


_AXES = [(c, o, s) for c in (8, 24, 64, 160) for o in (16, 48, 128) for s in (4, 8, 16, 28)]


def _law(spec: OpSpec) -> float:
    """A device's latency: overhead, arithmetic and traffic."""
    return 0.01 + 2e-7 * spec.macs + 3e-6 * spec.output_bytes


def _measured(specs: list[OpSpec], noise: float = 0.0, seed: int = 0) -> list[Measurement]:
    rng = np.random.default_rng(seed)
    return [Measurement((s,), _law(s) * float(np.exp(noise * rng.normal())), label=s.key) for s in specs]


_NOISY = Interpolation(_measured([_dense(*axes) for axes in _AXES], noise=0.3))
_DEPTHWISE = Interpolation(_measured([_depthwise(c, s) for c, _, s in _AXES], noise=0.3))
_SIZES = st.tuples(st.integers(1, 600), st.integers(1, 600), st.integers(1, 60))


@settings(max_examples=200, deadline=None)
@given(small=_SIZES, more=st.tuples(*[st.integers(0, 300)] * 3))
def test_estimates_never_fall_when_channels_or_pixels_grow(small: tuple[int, ...], more: tuple[int, ...]) -> None:
    """Even where the known figures are noisy, and beyond them."""
    large = tuple(a + b for a, b in zip(small, more, strict=True))
    first, second = (_NOISY(_dense(*sizes)) for sizes in (small, large))
    if "twin" not in (first.how, second.how):
        assert second.value >= first.value * (1 - 1e-12)
    narrow, wide = (_DEPTHWISE(_depthwise(sizes[0] + 1, sizes[2])) for sizes in (small, large))
    if "twin" not in (narrow.how, wide.how):
        assert wide.value >= narrow.value * (1 - 1e-12)


@settings(max_examples=100, deadline=None)
@given(small=_SIZES, more=st.tuples(*[st.integers(0, 300)] * 3))
def test_amounts_of_work_never_fall(small: tuple[int, ...], more: tuple[int, ...]) -> None:
    large = tuple(a + b for a, b in zip(small, more, strict=True))
    for form in (lambda s: _dense(*s), lambda s: _depthwise(s[0] + 1, s[2])):
        first, second = (
            np.array([*operator_work(matrix_product(op)), *passes(matrix_product(op))])
            for op in map(form, (small, large))
        )
        assert (second >= first).all()


def test_a_law_of_work_is_found_again() -> None:
    """Without noise the curve is the law itself, inside and outside."""
    interpolation = Interpolation(_measured([_dense(*axes) for axes in _AXES]))
    for axes in [(32, 96, 12), (100, 20, 20), (160, 128, 28)]:
        found = interpolation(_dense(*axes).replace(bias=True))
        assert found.value == pytest.approx(_law(_dense(*axes)), rel=0.02)
    beyond = interpolation(_dense(320, 256, 56))
    assert beyond.how == "extrapolated"
    assert beyond.value == pytest.approx(_law(_dense(320, 256, 56)), rel=0.05)


def test_steps_of_an_array_are_found() -> None:
    """An array of 64 columns takes as long for 65 channels as for 128: the ablation without tiles cannot see it."""

    def steps(spec: OpSpec) -> float:
        return 1e-6 * spec.input_bytes * -(-spec.output_shape[0] // 64)

    specs = [_dense(c, o, s) for c in (16, 64) for o in range(24, 260, 12) for s in (7, 14)]
    curve = Curve(specs, [steps(spec) for spec in specs])
    assert curve.relative_std < 0.02
    assert curve(_dense(32, 70, 14)).value == pytest.approx(steps(_dense(32, 70, 14)), rel=0.05)
    amounts = np.array([operator_work(spec) for spec in specs])
    known = np.array([steps(spec) for spec in specs])
    without_tiles = amounts @ nonnegative_least_squares(amounts / known[:, None], np.ones(len(known)))
    assert np.abs(without_tiles / known - 1).max() > 0.1


def test_the_same_arithmetic_is_a_twin() -> None:
    plain = _dense(8, 16, 10)
    interpolation = Interpolation([Measurement((plain.replace(activation="relu"),), 0.5, 0.05, 9)])
    found = interpolation(plain.replace(bias=True))
    assert (found.value, found.std, found.how) == (0.5, 0.05, "twin")


def test_how_far_an_estimate_lies_from_what_is_known() -> None:
    inside, beyond, kernel = _NOISY(_dense(30, 40, 10)), _NOISY(_dense(1300, 40, 10)), _NOISY(_dense(8, 40, 10, 3))
    assert (inside.how, beyond.how, kernel.how) == ("interpolated", "extrapolated", "extrapolated")
    assert inside.std / inside.value < kernel.std / kernel.value < beyond.std / beyond.value
    curve = _NOISY.curve(_dense(1, 1, 1))
    assert curve is not None
    assert inside.std / inside.value == pytest.approx(curve.relative_std)
    assert 0.2 < curve.relative_std < 0.5, "the noise of the figures was 0.3"


def test_other_kernels_are_priced_as_products_of_matrices() -> None:
    """A 3x3 convolution of 16 channels is a product as deep as a 1x1 convolution of 144."""
    assert matrix_product(_dense(16, 32, 10, 3)).macs == _dense(16, 32, 10, 3).macs
    assert matrix_product(_dense(16, 32, 10, 3)).input_shape == (144, 1, 100)
    assert matrix_product(OpSpec("linear", (64,), (10,))).macs == 640
    gru = OpSpec("gru", (20, 32), (20, 48))
    assert matrix_product(gru).macs == gru.macs
    assert matrix_product(OpSpec("add", (8, 4, 4), (8, 4, 4))) == OpSpec("add", (8, 4, 4), (8, 4, 4))
    three, one = _NOISY(_dense(16, 32, 10, 3)), _NOISY(_dense(144, 32, 10))
    assert three.value == pytest.approx(one.value)


def test_sizes_outside_are_counted_in_doublings() -> None:
    known = SizeRange([_dense(8, 8, 8), _dense(64, 64, 8)])
    assert known.octaves_outside(_dense(20, 30, 8)) == 0
    assert known.octaves_outside(_dense(64, 128, 8)) == pytest.approx(1)
    assert known.octaves_outside(_dense(2, 8, 8)) == pytest.approx(2)


def test_what_nothing_is_like_is_refused() -> None:
    with pytest.raises(EspalierError, match="nothing like the operator softmax:i10:o10 was measured"):
        _NOISY(OpSpec("softmax", (10,), (10,)))
    with pytest.raises(EspalierError, match=r"nothing like the operator conv2d:.*:b8 was measured"):
        _NOISY(_dense(30, 40, 10, bits=8))
    with pytest.raises(EspalierError, match="nothing like"):
        Interpolation([])(_dense(1, 1, 1))


_TRUE = Efficiency(
    0.0,
    {
        "conv2d_1x1": {"mmacs": 0.2, "written_mb": 1.5},
        "depthwise_3x3": {"read_mb": 0.7},
        "add": {"read_mb": 0.3, "written_mb": 0.1},
    },
    {},
)


def _blocks(count: int = 40, noise: float = 0.0) -> list[Measurement]:
    rng = np.random.default_rng(1)
    found = []
    for index in range(count):
        sizes = ((8, 64), (64, 256), (8, 64), (4, 28))
        channels, middle, out, size = (int(rng.integers(low, high)) for low, high in sizes)
        ops = (_dense(channels, middle, size), _depthwise(middle, size), _dense(middle, out, size))
        ops = (*ops, OpSpec("add", (out, size, size), (out, size, size), n_inputs=2))[: 3 + index % 2]
        factor = float(np.exp(noise * rng.normal()))
        found.append(Measurement(ops, _TRUE.latency_ms(ops) * factor, label=f"block {index}"))
    return found


def test_left_out_blocks_of_a_law_are_found_again() -> None:
    assert max(abs(one.error) for one in left_out_errors(_blocks())) < 0.01
    assert {one.dearest for one in left_out_errors(_blocks())} == {"dense"}


def test_left_out_errors_are_those_of_leaving_each_out_by_hand() -> None:
    blocks = _blocks(noise=0.1)
    errors = left_out_errors(blocks)
    for index in (0, 7):
        efficiency, _ = fit_efficiency([*blocks[:index], *blocks[index + 1 :]], has_overhead=False)
        expected = efficiency.latency_ms(blocks[index].ops) / blocks[index].latency_ms - 1
        assert errors[index].error == pytest.approx(expected, abs=0.01)
    in_fours = left_out_errors(blocks, lambda m: m.label[-1])
    assert sorted(one.measurement.label for one in in_fours) == sorted(m.label for m in blocks)
    assert left_out_errors(blocks[:1]) == []


def test_what_only_one_group_has_is_not_judged() -> None:
    pool = Measurement((OpSpec("max_pool2d", (8, 4, 4), (8, 2, 2), (2, 2), (2, 2)),), 0.1, label="pool")
    assert "pool" not in {one.measurement.label for one in left_out_errors([*_blocks(), pool])}


def test_operators_are_estimated_from_blocks() -> None:
    """Roughly: what one operator of a block writes the next one reads, and noise decides whom it is ascribed to."""
    interpolation = Interpolation(_blocks(noise=0.05))
    found = interpolation(_dense(32, 128, 14))
    assert found.how == "interpolated"
    assert found.value == pytest.approx(_TRUE.operator_ms(_dense(32, 128, 14)), rel=0.2)
    assert 0.02 < found.std / found.value < 0.1
    assert interpolation(_dense(32, 128, 56)).how == "extrapolated"
    assert interpolation(_dense(8, 64, 14, 3)).how == "extrapolated"
    with pytest.raises(EspalierError, match="nothing like the operator softmax"):
        interpolation(OpSpec("softmax", (10,), (10,)))


_FITTED, _ = fit_efficiency(_blocks(noise=0.3), has_overhead=False)


@settings(max_examples=60, deadline=None)
@given(small=_SIZES, more=st.tuples(*[st.integers(0, 300)] * 3))
def test_fitted_efficiencies_never_fall(small: tuple[int, ...], more: tuple[int, ...]) -> None:
    large = tuple(a + b for a, b in zip(small, more, strict=True))
    assert _FITTED.operator_ms(_dense(*large)) >= _FITTED.operator_ms(_dense(*small))


def test_classes_of_operators_whose_sizes_can_be_compared() -> None:
    assert operator_class(_depthwise(8, 4)) == "depthwise"
    assert operator_class(_dense(8, 8, 4).replace(groups=2)) == "dense"
    assert operator_class(OpSpec("gru", (4, 8), (4, 8))) == "dense"
    assert operator_class(OpSpec("max_pool2d", (8, 4, 4), (8, 2, 2))) == "max_pool2d"


def test_left_out_operators_of_bitfusion(data_root: Path) -> None:
    """Depthwise convolutions within half a percent, others within a tenth on average, without being shown them."""
    table = import_table(data_root / "luts" / "bitfusion_latency_energy.json.gz").table
    measured = table.measurements()
    rest, left_out = Interpolation(m for i, m in enumerate(measured) if i % 9), measured[::9]
    errors: dict[str, list[float]] = {"depthwise": [], "dense": []}
    for m in left_out:
        errors[operator_class(m.ops[0])].append(abs(rest(m.ops[0]).value / m.latency_ms - 1))
    assert np.mean(errors["depthwise"]) < 0.005
    assert np.mean(errors["dense"]) < 0.06
