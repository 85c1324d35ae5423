"""One operator as an ONNX model, to be timed in ONNX Runtime."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...graph.opspec import FLOAT_BITS, GATES, OpSpec, Shape

__all__ = ["OPSET", "chain_model", "operator_model", "product_chain_model"]

OPSET = 17

#: Versions that every ONNX Runtime of the supported range reads.
_IR_VERSION = 8

_ACTIVATIONS = {
    "relu": "Relu",
    "relu6": "Clip",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "elu": "Elu",
    "leaky_relu": "LeakyRelu",
    "hardswish": "HardSwish",
    "hard_swish": "HardSwish",
    "softplus": "Softplus",
}

Feeds = dict[str, NDArray[Any]]


class _Builder:
    """Collects the nodes and constants of one model."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.feeds: Feeds = {}
        self._rng = np.random.default_rng(0)

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self._rng.normal(0, 0.05, shape).astype(np.float32))

    def codes(self, *shape: int) -> str:
        return self.constant(self._rng.integers(-127, 128, shape, dtype=np.int8))

    def feed(self, shape: Shape, codes: bool = False) -> str:
        name = f"x{len(self.feeds)}"
        full = (1, *shape)
        values = self._rng.integers(0, 256, full, dtype=np.uint8) if codes else self._rng.random(full, np.float32)
        self.feeds[name] = values
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def grid(self) -> tuple[str, str]:
        return self.constant(np.float32(0.02)), self.constant(np.uint8(0))

    def model(self, output: str, output_type: int = TensorProto.FLOAT) -> ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)
            for name, values in self.feeds.items()
        ]
        outputs = [helper.make_tensor_value_info(output, output_type, None)]
        graph = helper.make_graph(self.nodes, "operator", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def operator_model(spec: OpSpec) -> tuple[ModelProto, Feeds]:
    """A model of one operator and random inputs for it.

    Args:
        spec: Any descriptor; kinds that are not known are represented by an elementwise product of their size.

    Returns:
        The model, and its inputs by name, with a batch axis of 1.
    """
    builder = _Builder()
    if spec.bits != FLOAT_BITS:
        return builder.model(_integer(builder, spec), TensorProto.UINT8), builder.feeds
    if spec.kind == "quantize":
        return builder.model(_quantize(builder, spec), TensorProto.UINT8), builder.feeds
    result = _BUILDERS.get(spec.kind, _elementwise)(builder, spec)
    if spec.activation and spec.kind != "activation":
        result = _activate(builder, result, spec.activation)
    return builder.model(result), builder.feeds


def chain_model(length: int) -> tuple[ModelProto, Feeds]:
    """A model of `length` trivial operators, whose time is all overhead."""
    builder = _Builder()
    name = builder.feed((1,))
    for turn in range(length):
        # Nodes of two kinds in turn, which no optimiser merges.
        name = builder.node("Sigmoid" if turn % 2 else "Tanh", name)
    return builder.model(name), builder.feeds


def product_chain_model(length: int) -> tuple[ModelProto, Feeds]:
    """A model of `length` products with a small matrix, for engines that merge elementwise functions."""
    builder = _Builder()
    name = builder.feed((4,))
    for _ in range(length):
        name = builder.node("MatMul", name, builder.weight(4, 4))
    return builder.model(name), builder.feeds


def _moves(spec: OpSpec) -> dict[str, Any]:
    return {
        "kernel_shape": list(spec.kernel),
        "strides": list(spec.stride),
        "pads": [*spec.padding, *spec.padding],
    }


def _conv(builder: _Builder, spec: OpSpec) -> str:
    shape = (spec.output_shape[0], spec.input_shape[0] // spec.groups, *spec.kernel)
    inputs = [builder.feed(spec.input_shape), builder.weight(*shape)]
    if spec.bias:
        inputs.append(builder.weight(spec.output_shape[0]))
    return builder.node("Conv", *inputs, **_moves(spec), dilations=list(spec.dilation), group=spec.groups)


def _conv_transpose(builder: _Builder, spec: OpSpec) -> str:
    shape = (spec.input_shape[0], spec.output_shape[0] // spec.groups, *spec.kernel)
    inputs = [builder.feed(spec.input_shape), builder.weight(*shape)]
    if spec.bias:
        inputs.append(builder.weight(spec.output_shape[0]))
    return builder.node("ConvTranspose", *inputs, **_moves(spec), dilations=list(spec.dilation), group=spec.groups)


def _linear(builder: _Builder, spec: OpSpec) -> str:
    inputs = [builder.feed(spec.input_shape)]
    outputs, features = spec.output_shape[-1], spec.input_shape[-1]
    if len(spec.input_shape) > 1:
        product = builder.node("MatMul", inputs[0], builder.weight(features, outputs))
        return builder.node("Add", product, builder.weight(outputs)) if spec.bias else product
    inputs.append(builder.weight(outputs, features))
    if spec.bias:
        inputs.append(builder.weight(outputs))
    return builder.node("Gemm", *inputs, transB=1)


def _recurrent(builder: _Builder, spec: OpSpec) -> str:
    """A layer over (1, steps, features); engines want the steps first, and give (steps, directions, 1, hidden)."""
    gates, directions = GATES[spec.kind], spec.groups
    hidden = spec.output_shape[-1] // directions
    inputs = [builder.node("Transpose", builder.feed(spec.input_shape), perm=[1, 0, 2])]
    inputs.append(builder.weight(directions, gates * hidden, spec.input_shape[-1]))
    inputs.append(builder.weight(directions, gates * hidden, hidden))
    if spec.bias:
        inputs.append(builder.weight(directions, 2 * gates * hidden))
    attributes = {"linear_before_reset": 1} if spec.kind == "gru" else {}
    direction = "bidirectional" if directions > 1 else "forward"
    outputs = builder.node(spec.kind.upper(), *inputs, hidden_size=hidden, direction=direction, **attributes)
    outputs = builder.node("Transpose", outputs, perm=[2, 0, 1, 3])
    return builder.node("Reshape", outputs, *_integers(builder, (1, *spec.output_shape)))


def _matmul(builder: _Builder, spec: OpSpec) -> str:
    right = (*spec.input_shape[:-2], spec.input_shape[-1], spec.output_shape[-1])
    return builder.node("MatMul", builder.feed(spec.input_shape), builder.feed(right))


def _integer(builder: _Builder, spec: OpSpec) -> str:
    """An 8-bit convolution or linear layer from codes to codes, as ONNX Runtime's fusions expect it."""
    outputs = spec.output_shape[0]
    rest = (spec.input_shape[0] // spec.groups, *spec.kernel) if spec.kind == "conv2d" else spec.input_shape
    x = builder.node("DequantizeLinear", builder.feed(spec.input_shape, codes=True), *builder.grid())
    scales = builder.constant(np.full(outputs, 0.01, np.float32))
    zeros = builder.constant(np.zeros(outputs, np.int8))
    w = builder.node("DequantizeLinear", builder.codes(outputs, *rest), scales, zeros, axis=0)
    bias_codes = builder.constant(np.zeros(outputs, np.int32))
    bias_scales = builder.constant(np.full(outputs, 2e-4, np.float32))
    b = builder.node("DequantizeLinear", bias_codes, bias_scales, axis=0)
    if spec.kind == "conv2d":
        moves = {**_moves(spec), "dilations": list(spec.dilation), "group": spec.groups}
        result = builder.node("Conv", x, w, b, **moves)
    else:
        result = builder.node("Gemm", x, w, b, transB=1)
    if spec.activation:
        result = _activate(builder, result, spec.activation)
    return builder.node("QuantizeLinear", result, *builder.grid())


def _quantize(builder: _Builder, spec: OpSpec) -> str:
    """Floats to codes; feature maps are laid out channels last for the integer convolutions."""
    codes = builder.node("QuantizeLinear", builder.feed(spec.input_shape), *builder.grid())
    return builder.node("Transpose", codes, perm=[0, 2, 3, 1]) if len(spec.input_shape) == 3 else codes


def _dequantize(builder: _Builder, spec: OpSpec) -> str:
    codes = builder.feed(spec.input_shape, codes=True)
    if len(spec.input_shape) == 3:
        codes = builder.node("Transpose", codes, perm=[0, 2, 3, 1])
    return builder.node("DequantizeLinear", codes, *builder.grid())


def _activate(builder: _Builder, name: str, activation: str) -> str:
    if activation == "relu6":
        limits = (builder.constant(np.float32(0)), builder.constant(np.float32(6)))
        return builder.node("Clip", name, *limits)
    if activation in ("silu", "swish"):
        return builder.node("Mul", name, builder.node("Sigmoid", name))
    if activation == "gelu":
        error = builder.node("Erf", builder.node("Mul", name, builder.constant(np.float32(0.7071))))
        return builder.node("Mul", name, error)
    return builder.node(_ACTIVATIONS.get(activation, "Relu"), name)


def _activation(builder: _Builder, spec: OpSpec) -> str:
    return _activate(builder, builder.feed(spec.input_shape), spec.activation)


def _elementwise(builder: _Builder, spec: OpSpec) -> str:
    return builder.node("Mul", builder.feed(spec.input_shape), builder.constant(np.float32(2)))


def _add(builder: _Builder, spec: OpSpec) -> str:
    result = builder.feed(spec.input_shape)
    for _ in range(max(1, spec.n_inputs - 1)):
        result = builder.node("Add", result, builder.feed(spec.input_shape))
    return result


def _concat(builder: _Builder, spec: OpSpec) -> str:
    missing = spec.output_shape[0] - spec.input_shape[0]
    count = max(1, spec.n_inputs - 1)
    sizes = [missing // count + (1 if part < missing % count else 0) for part in range(count)]
    shapes = [spec.input_shape, *((size, *spec.input_shape[1:]) for size in sizes if size)]
    return builder.node("Concat", *(builder.feed(shape) for shape in shapes), axis=1)


def _gather(builder: _Builder, spec: OpSpec) -> str:
    """A copy of channels or pixels: a permutation, a cut or a padding, as the shapes say."""
    name = builder.feed(spec.input_shape)
    if spec.input_shape == spec.output_shape or len(spec.input_shape) != len(spec.output_shape):
        order = builder.constant(np.arange(spec.input_shape[0])[::-1].copy())
        return builder.node("Gather", name, order, axis=1)
    pairs = list(zip(spec.input_shape, spec.output_shape, strict=True))
    if any(after < before for before, after in pairs):
        steps = [max(1, before // after) for before, after in pairs]
        ends = [min(before, after * step) for (before, after), step in zip(pairs, steps, strict=True)]
        axes = range(1, len(pairs) + 1)
        name = builder.node("Slice", name, *_integers(builder, [0] * len(pairs), ends, axes, steps))
    grown = [max(0, after - before) for before, after in pairs]
    if any(grown):
        pads = [0, *(size // 2 for size in grown), 0, *(size - size // 2 for size in grown)]
        name = builder.node("Pad", name, *_integers(builder, pads))
    return name


def _integers(builder: _Builder, *lists: Sequence[int]) -> list[str]:
    return [builder.constant(np.array(list(values), np.int64)) for values in lists]


def _batch_norm(builder: _Builder, spec: OpSpec) -> str:
    ones = np.ones(spec.input_shape[0], np.float32)
    return builder.node(
        "BatchNormalization", builder.feed(spec.input_shape), *(builder.constant(ones) for _ in range(4))
    )


def _pool(op: str) -> Callable[[_Builder, OpSpec], str]:
    def build(builder: _Builder, spec: OpSpec) -> str:
        return builder.node(op, builder.feed(spec.input_shape), **_moves(spec))

    return build


def _global_pool(builder: _Builder, spec: OpSpec) -> str:
    rank = len(spec.input_shape)
    if rank == 3 and math.prod(spec.output_shape) == spec.input_shape[0]:
        return builder.node("GlobalAveragePool", builder.feed(spec.input_shape))
    return builder.node("ReduceMean", builder.feed(spec.input_shape), axes=list(range(2, rank + 1)))


def _softmax(builder: _Builder, spec: OpSpec) -> str:
    return builder.node("Softmax", builder.feed(spec.input_shape), axis=-1)


_BUILDERS: dict[str, Callable[[_Builder, OpSpec], str]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
    "gru": _recurrent,
    "lstm": _recurrent,
    "batch_norm": _batch_norm,
    "activation": _activation,
    "add": _add,
    "concat": _concat,
    "gather": _gather,
    "max_pool2d": _pool("MaxPool"),
    "avg_pool2d": _pool("AveragePool"),
    "global_avg_pool2d": _global_pool,
    "softmax": _softmax,
    "dequantize": _dequantize,
}
