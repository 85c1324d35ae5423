"""From a layer or a function call to operator descriptors."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import ModelError
from .layers import SelfDescribing
from .opspec import OpSpec, Shape

__all__ = [
    "ACTIVATIONS",
    "RESHAPES",
    "SPLITS",
    "call_spec",
    "module_specs",
    "output_shape",
    "recurrent_shape",
    "same_padding",
]

#: Module classes of activations and the operator names that functions and ATen use for the same.
ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardtanh: "hardtanh",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Softplus: "softplus",
    nn.PReLU: "prelu",
}

#: Calls that move no data, or that do nothing in an evaluated network.
_COPIES = ("alias", "clone", "contiguous", "detach", "dropout", "dropout2d", "feature_dropout", "identity", "to")
_VIEWS = ("expand", "expand_as", "flatten", "reshape", "squeeze", "unflatten", "unsqueeze", "view", "view_as")
RESHAPES = frozenset((*_COPIES, *_VIEWS))

#: Calls that return parts of their input, each read by an operator of its own.
SPLITS = ("chunk", "split", "split_with_sizes", "tensor_split", "unbind")

_SUMS = ("add", "iadd", "rsub", "sub")
_ARITHMETIC = frozenset(
    (*_SUMS, "abs", "clamp", "div", "exp", "log", "maximum", "minimum", "mul", "neg", "pow", "rsqrt", "sqrt", "truediv")
)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def module_specs(module: nn.Module, input_shape: Shape, output_shape: Shape) -> tuple[OpSpec, ...]:
    """The operators that an engine executes for one leaf layer.

    Args:
        module: The layer.
        input_shape: Shape of its input without the batch axis.
        output_shape: Shape of its output without the batch axis.
    """
    if isinstance(module, SelfDescribing):
        return module.op_specs(input_shape)
    if isinstance(module, nn.GRU | nn.LSTM):
        return _recurrent(module, input_shape)
    if (spec := _weighted_spec(module, input_shape, output_shape)) is not None:
        return (spec,)
    if (name := ACTIVATIONS.get(type(module))) is not None:
        return (OpSpec("activation", input_shape, output_shape, activation=name),)
    return (call_spec(_function_name(module), (input_shape,), output_shape, _pool_arguments(module)),)


def _weighted_spec(module: nn.Module, input_shape: Shape, output_shape: Shape) -> OpSpec | None:
    """The one operator of a layer with weights; None for others."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return _convolution(module, input_shape, output_shape)
    if isinstance(module, nn.Conv1d):
        return _convolution_1d(module, input_shape, output_shape)
    if isinstance(module, nn.Linear):
        return OpSpec("linear", input_shape, output_shape, bias=module.bias is not None)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return OpSpec("batch_norm", input_shape, output_shape, bias=module.affine)
    return None


def _convolution(module: nn.Conv2d | nn.ConvTranspose2d, input_shape: Shape, output_shape: Shape) -> OpSpec:
    return OpSpec(
        "conv2d" if isinstance(module, nn.Conv2d) else "conv_transpose2d",
        input_shape,
        output_shape,
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride),
        padding=_padding(module),
        dilation=_pair(module.dilation),
        groups=module.groups,
        bias=module.bias is not None,
    )


def _convolution_1d(module: nn.Conv1d, input_shape: Shape, output_shape: Shape) -> OpSpec:
    """A convolution over signals (C, T) as one over images of one row (C, 1, T)."""
    kernel, dilation = (1, module.kernel_size[0]), (1, module.dilation[0])
    if isinstance(module.padding, str):
        padding = same_padding(kernel, dilation) if module.padding == "same" else (0, 0)
    else:
        padding = (0, module.padding[0])
    return OpSpec(
        "conv2d",
        (input_shape[0], 1, input_shape[1]),
        (output_shape[0], 1, output_shape[1]),
        kernel=kernel,
        stride=(1, module.stride[0]),
        padding=padding,
        dilation=dilation,
        groups=module.groups,
        bias=module.bias is not None,
    )


def _recurrent(module: nn.GRU | nn.LSTM, input_shape: Shape) -> tuple[OpSpec, ...]:
    """One operator per layer of the stack."""
    if not module.batch_first:
        raise ModelError(f"a recurrent layer must have batch_first=True, got a {type(module).__name__} without it")
    kind = "gru" if isinstance(module, nn.GRU) else "lstm"
    specs: list[OpSpec] = []
    for _ in range(module.num_layers):
        output = recurrent_shape(module, input_shape)
        directions = 2 if module.bidirectional else 1
        specs.append(OpSpec(kind, input_shape, output, groups=directions, bias=module.bias))
        input_shape = output
    return tuple(specs)


def recurrent_shape(module: nn.RNNBase, input_shape: Shape) -> Shape:
    """Shape of a recurrent layer's outputs.

    Args:
        module: The layer.
        input_shape: (steps, features).
    """
    return (input_shape[0], module.hidden_size * (2 if module.bidirectional else 1))


def _padding(module: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, int]:
    if not isinstance(module.padding, str):
        return _pair(module.padding)
    is_same = module.padding == "same"
    return same_padding(_pair(module.kernel_size), _pair(module.dilation)) if is_same else (0, 0)


def same_padding(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Padding of height and width that keeps an image's size at stride 1, what an even kernel has left over apart.

    Args:
        kernel: Kernel height and width.
        dilation: Dilation of height and width.
    """
    return (kernel[0] - 1) * dilation[0] // 2, (kernel[1] - 1) * dilation[1] // 2


_FUNCTION_NAMES: dict[type[nn.Module], str] = {
    nn.MaxPool2d: "max_pool2d",
    nn.AvgPool2d: "avg_pool2d",
    nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d",
    nn.MaxPool1d: "max_pool1d",
    nn.AvgPool1d: "avg_pool1d",
    nn.AdaptiveAvgPool1d: "adaptive_avg_pool1d",
    nn.AdaptiveMaxPool1d: "adaptive_max_pool1d",
    nn.Flatten: "flatten",
    nn.Unflatten: "unflatten",
    nn.Identity: "identity",
    nn.Dropout: "dropout",
    nn.Dropout2d: "dropout",
    nn.Softmax: "softmax",
    nn.LogSoftmax: "log_softmax",
}


def _function_name(module: nn.Module) -> str:
    return _FUNCTION_NAMES.get(type(module), type(module).__name__.lower())


def _pool_arguments(module: nn.Module) -> dict[str, Any]:
    if not isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.MaxPool1d | nn.AvgPool1d):
        return {}
    return {"kernel": module.kernel_size, "stride": module.stride, "padding": module.padding}


def call_spec(name: str, inputs: Sequence[Shape], output: Shape, pool: dict[str, Any] | None = None) -> OpSpec:
    """The descriptor of a call without weights.

    Args:
        name: What is called, such as "relu", "add" or "max_pool2d".
        inputs: Shapes of the tensors that go in, without the batch axis.
        output: Shape of what comes out, without the batch axis.
        pool: Kernel, stride and padding of a pooling call.
    """
    sources = inputs or (output,)
    if name in _ONE_DIMENSIONAL:
        return _pool_1d(_ONE_DIMENSIONAL[name], sources[0], output, pool or {})
    if name in ACTIVATIONS.values():
        return OpSpec("activation", sources[0], output, activation=name)
    if name in _ARITHMETIC:
        return _arithmetic(name, sources, output)
    if name in _POOLS:
        return _pool(name, sources[0], output, pool or {})
    kind = "reshape" if name in RESHAPES else _PLAIN_KINDS.get(name, "other")
    if name == "mean" and len(sources[0]) == 3 and math.prod(output) == sources[0][0]:
        kind = "global_avg_pool2d"
    return OpSpec(kind, sources[0], output, n_inputs=len(sources))


#: Calls that need nothing but the shapes.
_PLAIN_KINDS = {
    "bmm": "matmul",
    "cat": "concat",
    "concat": "concat",
    "getitem": "gather",
    "index_select": "gather",
    "log_softmax": "softmax",
    "matmul": "matmul",
    "pad": "gather",
    "permute": "gather",
    "select": "gather",
    "slice": "gather",
    "softmax": "softmax",
    "transpose": "gather",
}

_POOLS = {
    "adaptive_avg_pool2d": "avg_pool2d",
    "adaptive_max_pool2d": "max_pool2d",
    "avg_pool2d": "avg_pool2d",
    "max_pool2d": "max_pool2d",
}


#: Pooling of signals -> the same of images.
_ONE_DIMENSIONAL = {name.replace("2d", "1d"): name for name in _POOLS}


def _arithmetic(name: str, inputs: Sequence[Shape], output: Shape) -> OpSpec:
    is_sum = name in _SUMS and len(inputs) > 1
    return OpSpec("add" if is_sum else "elementwise", inputs[0], output, n_inputs=len(inputs))


def _pool(name: str, source: Shape, output: Shape, pool: dict[str, Any]) -> OpSpec:
    if name == "adaptive_avg_pool2d" and output[-2:] == (1, 1):
        return OpSpec("global_avg_pool2d", source, output)
    adaptive_kernel = (math.ceil(source[-2] / output[-2]), math.ceil(source[-1] / output[-1]))
    kernel = _pair(pool.get("kernel") or adaptive_kernel)
    stride = _pair(pool.get("stride") or kernel)
    return OpSpec(_POOLS[name], source, output, kernel, stride, _pair(pool.get("padding") or 0))


def _pool_1d(name: str, source: Shape, output: Shape, pool: dict[str, Any]) -> OpSpec:
    """Pooling over signals (C, T) as over images of one row (C, 1, T)."""
    image = {key: (0 if key == "padding" else 1, _pair(value)[-1]) for key, value in pool.items() if value is not None}
    rows = (source[0], 1, *source[1:]), (output[0], 1, *output[1:])
    return _pool(name, *rows, image)


def output_shape(spec: OpSpec, input_shape: Shape) -> Shape:
    """Shape that a convolution or linear layer like `spec` gives for another input shape.

    Args:
        spec: A descriptor of kind "conv2d" or "linear".
        input_shape: Shape without the batch axis.
    """
    if spec.kind == "linear":
        return (*input_shape[:-1], spec.output_shape[-1])
    sizes = zip(input_shape[1:], spec.kernel, spec.stride, spec.padding, spec.dilation, strict=True)
    return (spec.output_shape[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes))
