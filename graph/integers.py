"""Where numbers change between float and 8-bit integers in a network that an engine executes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .graph import INPUT, Operator
from .opspec import FLOAT_BITS, OpSpec, Shape

__all__ = ["with_conversions"]

#: Operators that give the same on codes as on the floats the codes stand for.
_TRANSPARENT = ("max_pool2d", "reshape")


def with_conversions(operators: Sequence[Operator], keeps_integers: bool) -> tuple[Operator, ...]:
    """Add the conversions that 8-bit operators need.

    Args:
        operators: In order of execution, without conversions.
        keeps_integers: Whether the engine hands integers from one 8-bit operator to the next.
    """
    by_name = {operator.name: operator for operator in operators}
    fed = {operator.name for operator in operators if keeps_integers and _gets_codes(operator, by_name, operators)}
    gives = {_source(operator, by_name, operators) for operator in operators if operator.name in fed}
    return tuple(
        replace(operator, specs=_converted(operator.specs, operator.name in fed, operator.name in gives))
        for operator in operators
    )


def _converted(specs: tuple[OpSpec, ...], gets_codes: bool, gives_codes: bool) -> tuple[OpSpec, ...]:
    converted: list[OpSpec] = []
    for position, spec in enumerate(specs):
        is_integer = spec.bits != FLOAT_BITS
        if is_integer and not (gets_codes and position == 0):
            converted.append(_conversion("quantize", spec.input_shape))
        converted.append(spec)
        if is_integer and not (gives_codes and position == len(specs) - 1):
            converted.append(_conversion("dequantize", spec.output_shape))
    return tuple(converted)


def _conversion(kind: str, shape: Shape) -> OpSpec:
    return OpSpec(kind, shape, shape)


def _gets_codes(operator: Operator, by_name: Mapping[str, Operator], operators: Sequence[Operator]) -> bool:
    return operator.specs[0].bits != FLOAT_BITS and _source(operator, by_name, operators) is not None


def _source(operator: Operator, by_name: Mapping[str, Operator], operators: Sequence[Operator]) -> str | None:
    """The 8-bit operator whose codes reach `operator` unchanged and go nowhere else; None when there is none."""
    name = operator.inputs[0] if operator.inputs else INPUT
    while name in by_name and sum(name in reader.inputs for reader in operators) == 1:
        source = by_name[name]
        if source.spec.bits != FLOAT_BITS:
            return name
        if source.kind not in _TRANSPARENT:
            return None
        name = source.inputs[0]
    return None
