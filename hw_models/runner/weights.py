"""Model files without the bulk of their weights: what is left out when they are copied, and filled in on the device.

The values of weights do not change how long an operator takes, so a file needs to say their shapes only.
"""

from __future__ import annotations

import math

import numpy as np

from ..runtimes.onnx_wire import Field, graph_of, joined, message, text_field, with_graph

__all__ = ["filled", "hollow"]

#: GraphProto.initializer; TensorProto.dims, .data_type, .name and .raw_data; DataType FLOAT and INT8.
_INITIALIZER, _DIMS, _KIND, _NAME, _RAW, _FLOAT, _INT8 = 5, 1, 2, 8, 9, 1, 3

#: Bytes from where on weights are left out.
_LARGE = 256

_MATRIX = 2


def hollow(model: bytes) -> bytes:
    """The model without the values of its large weights; biases, grids and indices stay.

    Args:
        model: An ONNX file whose weights stand in it as raw data.
    """
    return with_graph(model, [_hollow_tensor(field) for field in graph_of(model)])


def _hollow_tensor(field: Field) -> Field:
    if field.number != _INITIALIZER:
        return field
    tensor = message(field.content)
    raw = next((part for part in tensor if part.number == _RAW), None)
    is_weight = len(_shape(tensor)) >= _MATRIX and _kind(tensor) in (_FLOAT, _INT8)
    if raw is None or not is_weight or len(raw.content) < _LARGE:
        return field
    return text_field(_INITIALIZER, joined([part for part in tensor if part is not raw]))


def filled(model: bytes) -> bytes:
    """The model with small random numbers where `hollow` left weights out."""
    rng = np.random.default_rng(0)
    return with_graph(model, [_filled_tensor(field, rng) for field in graph_of(model)])


def _filled_tensor(field: Field, rng: np.random.Generator) -> Field:
    if field.number != _INITIALIZER:
        return field
    tensor = message(field.content)
    shape, kind = _shape(tensor), _kind(tensor)
    has_values = any(part.number not in (_DIMS, _KIND, _NAME) for part in tensor)
    if has_values or len(shape) < _MATRIX or kind not in (_FLOAT, _INT8):
        return field
    if kind == _FLOAT:
        values = rng.standard_normal(math.prod(shape), np.float32) * np.float32(0.05)
        return text_field(_INITIALIZER, field.content + text_field(_RAW, values.tobytes()).encoded())
    codes = rng.integers(-127, 128, math.prod(shape), np.int8)
    return text_field(_INITIALIZER, field.content + text_field(_RAW, codes.tobytes()).encoded())


def _shape(tensor: list[Field]) -> list[int]:
    return [int(part.value) for part in tensor if part.number == _DIMS]


def _kind(tensor: list[Field]) -> int:
    return next((int(part.value) for part in tensor if part.number == _KIND), 0)
