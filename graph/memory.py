"""Peak memory of a network executed operator by operator."""

import math
from collections.abc import Iterable, Sequence

from .graph import INPUT, Operator
from .opspec import FREE_KINDS, OpSpec, Shape

__all__ = ["peak_activation_bytes", "weight_bytes"]


def peak_activation_bytes(operators: Sequence[Operator], input_shape: Shape, output: str) -> int:
    """The most bytes of activations alive at once when each tensor is freed after its last reader.

    An operator's inputs and output live together while it runs. Views share their source's memory.

    Args:
        operators: In order of execution; an operator of several specs frees its inner tensors as a chain does.
        input_shape: Shape of the network's input without the batch axis.
        output: Name of the operator whose output is the network's.
    """
    storage = _storage_names(operators)
    last_reader = _last_readers(operators, storage, output)
    alive = {INPUT: math.prod(input_shape) * 4}
    peak = alive[INPUT]
    for position, operator in enumerate(operators):
        held = sum(alive.values())
        peak = max(peak, *(held + extra for extra in _inner_bytes(operator)))
        if storage[operator.name] == operator.name:
            alive[operator.name] = operator.spec.output_bytes
        for name in [name for name in alive if last_reader.get(name, -1) <= position]:
            del alive[name]
    return peak


def _storage_names(operators: Iterable[Operator]) -> dict[str, str]:
    """Operator name -> name of the operator whose memory its output lies in."""
    storage = {INPUT: INPUT}
    for operator in operators:
        is_view = operator.kind in FREE_KINDS and bool(operator.inputs)
        storage[operator.name] = storage[operator.inputs[0]] if is_view else operator.name
    return storage


def _last_readers(operators: Sequence[Operator], storage: dict[str, str], output: str) -> dict[str, int]:
    last: dict[str, int] = {}
    for position, operator in enumerate(operators):
        for name in operator.inputs:
            last[storage[name]] = position
    last[storage[output]] = len(operators)
    return last


def _inner_bytes(operator: Operator) -> list[int]:
    """Bytes that the operator adds to what is alive, at each of its inner steps."""
    if operator.kind in FREE_KINDS:
        return [0]
    sizes = [spec.output_bytes for spec in operator.specs]
    return [size + before for size, before in zip(sizes, [0, *sizes[:-1]], strict=True)]


def weight_bytes(specs: Iterable[OpSpec]) -> int:
    """Bytes of the weights that an engine holds for operators."""
    return sum(spec.weight_bytes for spec in specs)
