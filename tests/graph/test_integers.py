"""Where conversions between floats and integers go."""

import pytest
from espalier.graph.graph import INPUT, Operator
from espalier.graph.integers import with_conversions
from espalier.graph.opspec import OpSpec

_SHAPE = (4, 8, 8)


def _conv(bits: int) -> tuple[OpSpec, ...]:
    return (OpSpec("conv2d", _SHAPE, _SHAPE, (3, 3), padding=(1, 1), bits=bits),)


def _kinds(operators: tuple[Operator, ...]) -> list[str]:
    return [f"{spec.kind}{spec.bits if spec.kind == 'conv2d' else ''}" for o in operators for spec in o.specs]


def _chain(*bits: int, between: str = "") -> list[Operator]:
    operators: list[Operator] = []
    last = INPUT
    for index, width in enumerate(bits):
        operators.append(Operator(f"conv{index}", f"conv{index}", _conv(width), (last,)))
        last = f"conv{index}"
        if between and index + 1 < len(bits):
            operators.append(Operator(f"{between}{index}", "", (OpSpec(between, _SHAPE, _SHAPE),), (last,)))
            last = f"{between}{index}"
    return operators


def test_floats_need_no_conversion() -> None:
    operators = _chain(32, 32)
    assert with_conversions(operators, True) == tuple(operators)


def test_neighbours_hand_integers_on_where_the_engine_can() -> None:
    assert _kinds(with_conversions(_chain(8, 8), True)) == ["quantize", "conv2d8", "conv2d8", "dequantize"]
    apart = ["quantize", "conv2d8", "dequantize"] * 2
    assert _kinds(with_conversions(_chain(8, 8), False)) == apart
    assert _kinds(with_conversions(_chain(8, 32, 8), True)) == [*apart[:3], "conv2d32", *apart[:3]]


@pytest.mark.parametrize(("between", "passes"), [("max_pool2d", True), ("avg_pool2d", False)])
def test_integers_pass_only_what_does_not_compute_with_them(between: str, passes: bool) -> None:
    kinds = _kinds(with_conversions(_chain(8, 8, between=between), True))
    assert kinds.count("quantize") == (1 if passes else 2)


def test_a_second_reader_keeps_the_floats() -> None:
    operators = [*_chain(8, 8), Operator("sum", "", (OpSpec("add", _SHAPE, _SHAPE, n_inputs=2),), ("conv0", "conv1"))]
    assert _kinds(with_conversions(operators, True)).count("dequantize") == 2
