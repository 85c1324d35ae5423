"""One operator in the layout that it has inside a network of ONNX Runtime.

The engine computes convolutions in a blocked layout and converts to it once, at a network's border. In a model of one
operator that border is right beside it; here it is cut off.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .onnx_sessions import make_session
from .onnx_wire import (
    NODE,
    Field,
    Node,
    graph_of,
    joined,
    message,
    name_of,
    nodes_of,
    number_field,
    text_field,
    with_graph,
)

__all__ = ["without_reorders"]

#: Changes of layout that the engine inserts at the borders of a model but not between its operators.
_REORDERS = ("ReorderInput", "ReorderOutput", "Transpose")

#: GraphProto.input and .output; ValueInfoProto.name and .type; TypeProto.tensor_type; Tensor.elem_type and .shape;
#: TensorShapeProto.dim; Dimension.dim_value.
_INPUT, _OUTPUT, _NAME, _TYPE, _TENSOR, _ELEMENT, _SHAPE, _DIM, _DIM_VALUE = 11, 12, 1, 2, 1, 1, 2, 1, 1

#: NumPy's name of a type -> TensorProto.DataType.
_ELEMENTS = {"float32": 1, "uint8": 2, "int8": 3}

Feeds = dict[str, NDArray[Any]]


def without_reorders(model: bytes, feeds: Feeds, threads: int) -> tuple[bytes, Feeds]:
    """The optimised model without the changes of layout at its borders, and its inputs in the inner layout.

    Args:
        model: An ONNX file of one operator.
        feeds: Its inputs by name.
        threads: Threads of the engine.

    Returns:
        A model to be loaded without further optimisation, and what to feed it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        make_session(model, threads, save_to=path)
        optimised = path.read_bytes()
    graph, inner = graph_of(optimised), dict(feeds)
    (output,) = (field for field in graph if field.number == _OUTPUT)
    for node in nodes_of(graph):
        if node.op_type not in _REORDERS:
            continue
        if node.inputs[0] in inner:
            values = _run_alone(optimised, node, inner.pop(node.inputs[0]), threads)
            inner[node.outputs[0]] = values
            graph = [_renamed(field, node, values) for field in graph if field is not node.field]
        elif node.outputs[0] == name_of(output):
            element = _element_type(output)
            graph = [field for field in graph if field is not node.field and field is not output]
            graph.append(text_field(_OUTPUT, _value_info(node.inputs[0], element, None)))
    return with_graph(optimised, graph), inner


def _run_alone(model: bytes, node: Node, values: NDArray[Any], threads: int) -> NDArray[Any]:
    """What a change of layout makes of its input; only the engine knows its blocks."""
    element = _ELEMENTS[str(values.dtype)]
    graph = [
        Field(NODE, node.field.wire, node.field.value),
        text_field(2, "layout"),
        text_field(_INPUT, _value_info(node.inputs[0], element, values.shape)),
        text_field(_OUTPUT, _value_info(node.outputs[0], element, None)),
    ]
    session = make_session(with_graph(model, graph), threads, optimise=False)
    (result,) = session.run(None, {node.inputs[0]: values})
    return np.ascontiguousarray(result)


def _renamed(field: Field, node: Node, values: NDArray[Any]) -> Field:
    """An input of the graph that now is the output of the removed `node`; any other field as it is."""
    if field.number != _INPUT or name_of(field) != node.inputs[0]:
        return field
    return text_field(_INPUT, _value_info(node.outputs[0], _ELEMENTS[str(values.dtype)], values.shape))


def _value_info(name: str, element: int, shape: tuple[int, ...] | None) -> bytes:
    tensor = [number_field(_ELEMENT, element)]
    if shape is not None:
        dims = [text_field(_DIM, joined([number_field(_DIM_VALUE, size)])) for size in shape]
        tensor.append(text_field(_SHAPE, joined(dims)))
    kind = joined([text_field(_TENSOR, joined(tensor))])
    return joined([text_field(_NAME, name), text_field(_TYPE, kind)])


def _element_type(value_info: Field) -> int:
    """The element type of a graph's input or output."""
    content = value_info.content
    for number in (_TYPE, _TENSOR):
        content = next(field.content for field in message(content) if field.number == number)
    return next(int(field.value) for field in message(content) if field.number == _ELEMENT)
