"""Reading and changing ONNX files with nothing but the standard library, for devices without the onnx package.

An ONNX file is a protocol buffer: a list of numbered fields, each a number or bytes that may be a message again. Only
what is changed is decoded; all other fields pass through as they are. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "NODE",
    "Field",
    "Node",
    "graph_of",
    "joined",
    "message",
    "name_of",
    "nodes_of",
    "number_field",
    "text_field",
    "with_graph",
]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: ModelProto.graph, GraphProto.node, and a ValueInfoProto's or TensorProto's name.
_GRAPH, NODE, _VALUE_NAME = 7, 1, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE = 1, 2, 4


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        number: Its number.
        wire: Its wire type.
        value: A number, or the bytes of anything longer.
    """

    number: int
    wire: int
    value: int | bytes

    @property
    def content(self) -> bytes:
        """The bytes of a text or message.

        Raises:
            ValueError: It is a number.
        """
        if isinstance(self.value, int):
            raise ValueError(f"field {self.number} is a number, expected bytes")
        return self.value

    def encoded(self) -> bytes:
        """The field as it stands in a file."""
        tag = _varint(self.number << 3 | self.wire)
        if isinstance(self.value, int):
            return tag + _varint(self.value)
        return tag + (_varint(len(self.value)) if self.wire == _BYTES else b"") + self.value


@dataclass(frozen=True)
class Node:
    """An operator of a graph.

    Attributes:
        field: The field that holds it.
        op_type: Its kind.
        inputs: Names.
        outputs: Names.
    """

    field: Field
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def message(data: bytes) -> list[Field]:
    """The fields of a message.

    Raises:
        ValueError: The bytes are no protocol buffer.
    """
    return list(_fields(data))


def _fields(data: bytes) -> Iterator[Field]:
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            number, position = _read_varint(data, position)
            yield Field(tag >> 3, wire, number)
            continue
        if wire == _BYTES:
            length, position = _read_varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {wire}: not an ONNX file")
        if position + length > len(data):
            raise ValueError("the ONNX file is truncated")
        yield Field(tag >> 3, wire, data[position : position + length])
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise ValueError("the ONNX file is truncated")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def text_field(number: int, value: str | bytes) -> Field:
    """A text, or bytes such as an encoded message."""
    return Field(number, _BYTES, value.encode() if isinstance(value, str) else value)


def number_field(number: int, value: int) -> Field:
    """A number of at least 0."""
    return Field(number, _VARINT, value)


def joined(fields: list[Field]) -> bytes:
    """A message of these fields."""
    return b"".join(field.encoded() for field in fields)


def graph_of(model: bytes) -> list[Field]:
    """The fields of a model's graph.

    Raises:
        ValueError: The model has no graph, or is no protocol buffer.
    """
    graphs = [field.content for field in message(model) if field.number == _GRAPH]
    if len(graphs) != 1:
        raise ValueError("not an ONNX model: it has no graph")
    return message(graphs[0])


def with_graph(model: bytes, graph: list[Field]) -> bytes:
    """The model with another graph."""
    fields = [field for field in message(model) if field.number != _GRAPH]
    return joined([*fields, text_field(_GRAPH, joined(graph))])


def nodes_of(graph: list[Field]) -> list[Node]:
    """The operators of a graph, in order."""
    return [_node(field) for field in graph if field.number == NODE]


def _node(field: Field) -> Node:
    fields = message(field.content)
    texts = {
        number: tuple(f.content.decode() for f in fields if f.number == number)
        for number in (_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE)
    }
    return Node(field, "".join(texts[_NODE_TYPE]), texts[_NODE_INPUT], texts[_NODE_OUTPUT])


def name_of(value_info: Field) -> str:
    """The name of a graph's input or output."""
    return next(f.content.decode() for f in message(value_info.content) if f.number == _VALUE_NAME)
