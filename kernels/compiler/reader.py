"""From a PyTorch module to the compiler's layers, by way of torch.export."""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ...errors import ModelError
from ...graph.failure import describe_failure
from ...graph.layers import is_stored_small, replaced
from ..blocks import Blocks, is_block_pruned
from .ir import (
    INPUT,
    Activation,
    Add,
    BatchNorm,
    Concat,
    Convolution,
    GlobalPool,
    Layer,
    Network,
    Pair,
    Place,
    Pool,
    Recurrent,
    Rounding,
    Shape,
    Softmax,
    Step,
    View,
)

__all__ = ["read_network"]

#: What the axes of a tensor (without the batch) are: (channels, height, width), (channels, steps), (steps, features) or
#: (features).
_IMAGE, _SIGNAL, _SEQUENCE, _VECTOR = "image", "signal", "sequence", "vector"

#: Number of axes with the batch -> what they are after a reshape.
_KINDS = {2: _VECTOR, 3: _SIGNAL, 4: _IMAGE}

_ACTIVATIONS = {
    "hardsigmoid": "hardsigmoid",
    "hardswish": "hardswish",
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "tanh": "tanh",
}

#: Operators that read (channels, steps).
_OF_SIGNALS = {"adaptive_avg_pool1d", "avg_pool1d", "batch_norm", "conv1d", "max_pool1d", "unsqueeze"}

#: What changes nothing at inference.
_NOTHING = (
    "_assert_tensor_metadata",
    "alias",
    "clone",
    "contiguous",
    "detach",
    "dropout",
    "feature_dropout",
    "lift_fresh_copy",
    "to",
    "_to_copy",
)


@dataclass(frozen=True)
class _Known:
    """A tensor of the graph: the layer that gives it, and what its axes are."""

    name: str
    kind: str
    shape: Shape


def read_network(module: nn.Module, example_input: Tensor) -> Network:
    """The layers of a network in evaluation mode.

    Layers that are stored small are read as the ordinary layers they decode to; where their zeros have blocks, the
    blocks are kept.

    Args:
        module: Takes one tensor and returns one.
        example_input: Batch size 1: (1, C, H, W), (1, C, T), (1, T, F) or (1, F).

    Raises:
        ModelError: torch.export cannot follow the network, or it holds an operator that is not compiled.
    """
    blocks = {
        f"{path}.{name}".lstrip("."): found
        for path, layer in module.named_modules()
        if is_block_pruned(layer)
        for name, found in layer.kept_blocks().items()
    }
    ordinary = replaced(module, lambda layer: layer.dense() if is_stored_small(layer) else None).eval()
    _check_runs(ordinary, example_input)
    program = _exported(ordinary, example_input)
    return _Reader(program, blocks).read()


def _check_runs(module: nn.Module, example_input: Tensor) -> None:
    shape = tuple(example_input.shape)
    if example_input.ndim < 2 or shape[0] != 1:
        raise ModelError(f"the example input must have batch size 1, got shape {shape}")
    try:
        with torch.no_grad():
            module(example_input)
    except Exception as error:  # a user's forward can raise anything
        reason = describe_failure(error)
        raise ModelError(f"{type(module).__name__} fails on an input of shape {shape}: {reason}") from error


def _exported(module: nn.Module, example_input: Tensor) -> torch.export.ExportedProgram:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _no_log():
            return torch.export.export(module, (example_input,), strict=False)
    except Exception as error:  # what export cannot follow surfaces as many types
        reason = describe_failure(error)
        raise ModelError(f"{type(module).__name__} cannot be compiled: torch.export stopped at {reason}") from error


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(previous)


class _Reader:
    """Walks the exported graph; each ATen operator has a method of its name, or a rule in `_apply`."""

    def __init__(self, program: torch.export.ExportedProgram, blocks: dict[str, Blocks]) -> None:
        self._program = program
        self._blocks = blocks
        signature = program.graph_signature
        self._owners = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self._state = {**program.state_dict, **program.constants}
        self._inputs = set(signature.user_inputs)
        self._known: dict[fx.Node, _Known] = {}
        self._constants: dict[fx.Node, Tensor] = {}
        self._layers: list[Layer] = []
        self._input_shape: tuple[int, ...] = ()

    def read(self) -> Network:
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function":
                self._call(node)
        output = self._output()
        given, known = self._known_input(), self._known[output]
        return Network(
            tuple(self._layers),
            self._input_shape,
            tuple(output.meta["val"].shape[1:]),
            known.name,
            given.shape,
            given.kind == _SEQUENCE,
            known.kind == _SEQUENCE,
        )

    def _output(self) -> fx.Node:
        names = self._program.graph_signature.user_outputs
        if len(names) != 1:
            raise ModelError(f"a network that gives one tensor can be compiled, this one gives {len(names)}")
        output = next((node for node in self._known if node.name == names[0]), None)
        if output is None:
            raise ModelError("the network's output does not depend on its input, so there is nothing to compile")
        return output

    def _known_input(self) -> _Known:
        return next(known for known in self._known.values() if known.name == INPUT)

    def _placeholder(self, node: fx.Node) -> None:
        if node.name in self._inputs:
            self._input_shape = tuple(node.meta["val"].shape[1:])
            kind = _kind_of_input(node, len(self._input_shape))
            self._known[node] = _Known(INPUT, kind, _image(self._input_shape, kind))
        elif (owner := self._owners.get(node.name)) is not None:
            self._constants[node] = self._state[owner].detach()

    def _call(self, node: fx.Node) -> None:
        name = _aten_name(node)
        sources = [source for source in node.all_input_nodes if source in self._known]
        if not sources:
            self._constant(node)
        elif name == "getitem" and sources[0].meta.get("is_first_of_several"):
            self._first(node)
        elif name in _NOTHING:
            self._known[node] = self._known[sources[0]]
        elif (method := getattr(self, f"_read_{name}", None)) is not None:
            method(node)
        elif name in _ACTIVATIONS:
            self._add(node, Activation, sources[0], function=_ACTIVATIONS[name])
        else:
            raise ModelError(f"operator {node.target} cannot be compiled; compiled are: {', '.join(_compiled())}")

    def _first(self, node: fx.Node) -> None:
        """Of an operator that gives several tensors the first; the others only where nobody reads them."""
        if node.args[1] == 0:
            self._known[node] = self._known[node.all_input_nodes[0]]
        elif node.users:
            raise ModelError(
                f"output {node.args[1]} of {node.all_input_nodes[0].target} cannot be compiled, only its first; "
                "the last state of a recurrent layer is the last step of its first output"
            )

    def _constant(self, node: fx.Node) -> None:
        """What does not depend on the input is computed now."""

        def value(argument: Any) -> Any:
            return self._constants[argument] if isinstance(argument, fx.Node) else argument

        if any(source not in self._constants for source in node.all_input_nodes):
            return
        arguments = fx.map_arg(node.args, value)
        keywords = fx.map_arg(node.kwargs, value)
        with torch.no_grad():
            self._constants[node] = node.target(*arguments, **keywords)  # type: ignore[operator]  # a call_function

    def _add(self, node: fx.Node, layer: Callable[..., Layer], *sources: fx.Node, kind: str = "", **own: Any) -> None:
        """A layer whose output has the node's shape and, unless `kind` says otherwise, the axes of its first input."""
        known = [self._known[source] for source in sources]
        kind = kind or known[0].kind
        shape = _image(_shape(node)[1:], kind)
        self._layers.append(layer(node.name, tuple(one.name for one in known), shape, **own))
        self._known[node] = _Known(node.name, kind, shape)

    def _expect(self, node: fx.Node, *kinds: str) -> None:
        """Refuse an operator that reads other axes than it is compiled for."""
        known = self._known[node.all_input_nodes[0]]
        if known.kind not in kinds:
            raise ModelError(f"{_aten_name(node)} of {known.kind} {known.shape} cannot be compiled")

    def _tensor(self, argument: Any) -> Tensor | None:
        return None if argument is None else self._constants[argument]

    def _array(self, argument: Any, length: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A constant argument as floats; zeros of `length` where there is none."""
        tensor = self._tensor(argument)
        return np.zeros(length, np.float32) if tensor is None else tensor.float().contiguous().numpy()

    def _found_blocks(self, argument: Any) -> Blocks | None:
        return self._blocks.get(self._owners.get(argument.name, ""))

    # Layers with weights

    def _read_conv2d(self, node: fx.Node) -> None:
        self._convolution(node, _IMAGE, _pair)

    def _read_conv1d(self, node: fx.Node) -> None:
        self._convolution(node, _SIGNAL, lambda value, other: (other, _pair(value, 0)[1]))

    def _convolution(self, node: fx.Node, kind: str, pair: Callable[[Any, int], Pair]) -> None:
        self._expect(node, kind)
        weight = self._array(_argument(node, 1, "weight"))
        dilation = pair(_argument(node, 5, "dilation", 1), 1)
        kernel = weight.shape[2:] if kind == _IMAGE else (1, weight.shape[2])
        padding = _argument(node, 4, "padding", 0)
        if isinstance(padding, str):
            same = tuple((size - 1) * gap // 2 for size, gap in zip(kernel, dilation, strict=True))
            padding = same if padding == "same" else (0, 0)
        self._add(
            node,
            Convolution,
            node.args[0],  # type: ignore[arg-type]  # the tensor
            weight=weight.reshape(*weight.shape[:2], *kernel),
            bias=self._array(_argument(node, 2, "bias"), len(weight)),
            stride=pair(_argument(node, 3, "stride", 1), 1),
            padding=pair(padding, 0),
            dilation=dilation,
            groups=_argument(node, 6, "groups", 1),
            blocks=self._found_blocks(_argument(node, 1, "weight")),
        )

    def _read_linear(self, node: fx.Node) -> None:
        weight = self._array(_argument(node, 1, "weight"))
        known = self._known[node.args[0]]  # type: ignore[index]  # the tensor
        if known.kind not in (_VECTOR, _SEQUENCE):
            raise ModelError(f"a linear layer over the last axis of {known.kind} {known.shape} cannot be compiled")
        self._add(
            node,
            Convolution,
            node.args[0],  # type: ignore[arg-type]  # the tensor
            weight=weight[:, :, None, None],
            bias=self._array(_argument(node, 2, "bias"), len(weight)),
            blocks=self._found_blocks(_argument(node, 1, "weight")),
        )

    def _read_batch_norm(self, node: fx.Node) -> None:
        self._expect(node, _IMAGE, _SIGNAL, _VECTOR)
        if node.args[3] is None or node.args[5]:
            raise ModelError("a batch-norm is compiled with running statistics only")
        channels = self._known[node.args[0]].shape[0]  # type: ignore[index]  # the tensor
        mean, variance = self._array(node.args[3]), self._array(node.args[4])
        gain = self._array(node.args[1]) if node.args[1] is not None else np.ones(channels, np.float32)
        scale = gain.astype(np.float64) / np.sqrt(variance.astype(np.float64) + float(node.args[7]))  # type: ignore[arg-type]
        shift = self._array(node.args[2], channels) - mean * scale
        own = {"scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}
        self._add(node, BatchNorm, node.args[0], **own)  # type: ignore[arg-type]  # the tensor

    def _read_gru(self, node: fx.Node) -> None:
        self._recurrent(node, "gru", 3)

    def _read_lstm(self, node: fx.Node) -> None:
        self._recurrent(node, "lstm", 4)

    def _recurrent(self, node: fx.Node, kind: str, gates: int) -> None:
        arguments: tuple[Any, ...] = node.args[:9]
        source, states, parameters, has_bias, n_layers, _, _, is_bidirectional, is_batch_first = arguments
        starts = states if isinstance(states, list | tuple) else [states]
        if not is_batch_first or any(start not in self._constants or self._constants[start].any() for start in starts):
            raise ModelError(f"a {kind.upper()} is compiled with batch_first=True and a first state of zeros only")
        known = self._known[source]
        directions = 2 if is_bidirectional else 1
        per_layer = (4 if has_bias else 2) * directions
        for number in range(n_layers):
            own = parameters[number * per_layer : (number + 1) * per_layer]
            sides = [own[: per_layer // directions], own[per_layer // directions :]][:directions]
            name = f"{node.name}_{number}"
            made = [self._direction(name, known, kind, gates, side, place) for place, side in enumerate(sides)]
            self._layers += made
            known = _Known(made[0].name, _SEQUENCE, made[0].shape)
            if len(made) > 1:
                both = Concat(
                    f"{name}_both", tuple(one.name for one in made), (2 * made[0].shape[0], 1, known.shape[2])
                )
                self._layers.append(both)
                known = _Known(both.name, _SEQUENCE, both.shape)
        node.meta["is_first_of_several"] = True
        self._known[node] = known

    def _direction(self, name: str, known: _Known, kind: str, gates: int, own: Sequence[Any], place: int) -> Recurrent:
        hidden = self._constants[own[1]].shape[1]
        biases = own[2:] or (None, None)
        return Recurrent(
            f"{name}_reverse" if place else name,
            (known.name,),
            (hidden, 1, known.shape[2]),
            kind,
            self._array(own[0]),
            self._array(own[1]),
            self._array(biases[0], gates * hidden),
            self._array(biases[1], gates * hidden),
            bool(place),
            self._found_blocks(own[0]),
            self._found_blocks(own[1]),
        )

    # Pools

    def _read_max_pool2d(self, node: fx.Node) -> None:
        self._pool(node, _pair, is_maximum=True, dilation=_argument(node, 4, "dilation", 1))

    def _read_max_pool1d(self, node: fx.Node) -> None:
        self._pool(node, _one_row, is_maximum=True, dilation=_argument(node, 4, "dilation", 1))

    def _read_avg_pool2d(self, node: fx.Node) -> None:
        if _argument(node, 6, "divisor_override") is not None:
            raise ModelError("an average pool with divisor_override cannot be compiled")
        self._pool(node, _pair, is_maximum=False, counts_padding=_argument(node, 5, "count_include_pad", True))

    def _read_avg_pool1d(self, node: fx.Node) -> None:
        self._pool(node, _one_row, is_maximum=False, counts_padding=_argument(node, 5, "count_include_pad", True))

    def _pool(
        self,
        node: fx.Node,
        pair: Callable[[Any, int], Pair],
        is_maximum: bool,
        dilation: Any = 1,
        counts_padding: bool = True,
    ) -> None:
        self._expect(node, _IMAGE, _SIGNAL)
        if set(_pair(dilation, 1)) != {1}:
            raise ModelError("a max-pool with dilation cannot be compiled")
        kernel = pair(_argument(node, 1, "kernel_size"), 1)
        stride = _argument(node, 2, "stride", None)
        own = {"kernel": kernel, "stride": pair(stride, 1) if stride else kernel}
        own["padding"] = pair(_argument(node, 3, "padding", 0), 0)
        self._add(node, Pool, node.args[0], is_maximum=is_maximum, counts_padding=counts_padding, **own)  # type: ignore[arg-type]

    def _read_adaptive_avg_pool2d(self, node: fx.Node) -> None:
        self._adaptive_pool(node, is_maximum=False)

    def _read_adaptive_avg_pool1d(self, node: fx.Node) -> None:
        self._adaptive_pool(node, is_maximum=False)

    def _read_adaptive_max_pool2d(self, node: fx.Node) -> None:
        self._adaptive_pool(node, is_maximum=True)

    def _adaptive_pool(self, node: fx.Node, is_maximum: bool) -> None:
        self._expect(node, _IMAGE, _SIGNAL)
        known = self._known[node.args[0]]  # type: ignore[index]  # the tensor
        shape = _image(_shape(node)[1:], known.kind)
        node.meta["is_first_of_several"] = is_maximum
        if shape[1:] == (1, 1):
            self._add(node, GlobalPool, node.args[0], is_maximum=is_maximum)  # type: ignore[arg-type]
            return
        if any(size % out for size, out in zip(known.shape[1:], shape[1:], strict=True)):
            raise ModelError(f"an adaptive pool from {known.shape[1:]} to {shape[1:]} has windows of several sizes")
        kernel = (known.shape[1] // shape[1], known.shape[2] // shape[2])
        self._add(node, Pool, node.args[0], is_maximum=is_maximum, kernel=kernel, stride=kernel)  # type: ignore[arg-type]

    def _read_mean(self, node: fx.Node) -> None:
        known = self._known[node.args[0]]  # type: ignore[index]  # the tensor
        n_axes = len(_shape(node.all_input_nodes[0]))
        axes = {axis % n_axes for axis in _argument(node, 1, "dim") or range(n_axes)}
        expected = {_IMAGE: {2, 3}, _SIGNAL: {2}, _SEQUENCE: {1}, _VECTOR: set()}[known.kind]
        if axes != expected:
            raise ModelError(f"a mean over the axes {sorted(axes)} of {known.kind} {known.shape} cannot be compiled")
        keeps = len(node.meta["val"].shape) > 2
        self._add(node, GlobalPool, node.args[0], kind=known.kind if keeps else _VECTOR)  # type: ignore[arg-type]

    # Arithmetic

    def _read_add(self, node: fx.Node) -> None:
        first, second = node.args[:2]
        if node.kwargs.get("alpha", 1) != 1:
            raise ModelError("a sum with alpha cannot be compiled")
        if second in self._known and first in self._known:
            if self._axes(first) == self._axes(second):
                self._add(node, Add, first, second)  # type: ignore[arg-type]
                return
            raise ModelError("a sum of tensors of different shapes cannot be compiled")
        varying, fixed = (first, second) if first in self._known else (second, first)
        self._affine(node, varying, np.float32(1), self._per_channel(varying, fixed))

    def _axes(self, node: Any) -> tuple[str, Shape]:
        return self._known[node].kind, self._known[node].shape

    def _read_mul(self, node: fx.Node) -> None:
        first, second = node.args[:2]
        if first in self._known and second in self._known:
            raise ModelError("a product of two tensors that both depend on the input cannot be compiled")
        varying, fixed = (first, second) if first in self._known else (second, first)
        self._affine(node, varying, self._per_channel(varying, fixed), np.float32(0))

    def _per_channel(self, varying: Any, fixed: Any) -> Any:
        """A constant operand as one number a channel.

        Raises:
            ModelError: It has another shape.
        """
        if isinstance(fixed, int | float):
            return np.float32(fixed)
        value, known = self._given(fixed), self._known[varying]
        axis = {_SEQUENCE: 2}.get(known.kind, 1)
        shape = [1] * len(varying.meta["val"].shape)
        shape[axis] = known.shape[0]
        aligned = value.view(*[1] * (len(shape) - value.ndim), *value.shape)
        if value.numel() != 1 and list(aligned.shape) != shape:
            raise ModelError(f"arithmetic with a constant of shape {tuple(value.shape)} cannot be compiled")
        return value.float().flatten().numpy()

    def _affine(self, node: fx.Node, source: Any, scale: Any, shift: Any) -> None:
        channels = self._known[source].shape[0]
        scales, shifts = (np.broadcast_to(values, channels).copy() for values in (scale, shift))
        self._add(node, BatchNorm, source, scale=scales, shift=shifts)

    def _read_hardtanh(self, node: fx.Node) -> None:
        if (_argument(node, 1, "min_val", -1.0), _argument(node, 2, "max_val", 1.0)) != (0.0, 6.0):
            raise ModelError("a hardtanh is compiled as ReLU6 only")
        self._add(node, Activation, node.args[0], function="relu6")  # type: ignore[arg-type]

    def _read_fake_quantize_per_tensor_affine(self, node: fx.Node) -> None:
        scale, zero = (self._number(argument) for argument in node.args[1:3])
        lowest, highest = node.args[-2:]
        node.meta["is_first_of_several"] = True
        own = {"scale": float(scale), "zero_point": int(zero), "lowest": lowest, "highest": highest}
        self._add(node, Rounding, node.args[0], **own)  # type: ignore[arg-type]  # the tensor

    _read__fake_quantize_per_tensor_affine_cachemask_tensor_qparams = _read_fake_quantize_per_tensor_affine

    def _given(self, argument: fx.Node) -> Tensor:
        """A constant operand.

        Raises:
            ModelError: Its value is not known.
        """
        if argument not in self._constants:
            raise ModelError(f"{argument.name}, an operand, is known only when the network runs")
        return self._constants[argument]

    def _number(self, argument: Any) -> float:
        return float(self._constants[argument]) if isinstance(argument, fx.Node) else float(argument)

    def _read_softmax(self, node: fx.Node) -> None:
        self._softmax(node, is_log=False)

    def _read_log_softmax(self, node: fx.Node) -> None:
        self._softmax(node, is_log=True)

    def _softmax(self, node: fx.Node, is_log: bool) -> None:
        if self._known[node.args[0]].kind != _VECTOR:  # type: ignore[index]
            raise ModelError("a softmax over anything but a vector of scores cannot be compiled")
        self._add(node, Softmax, node.args[0], is_log=is_log)  # type: ignore[arg-type]

    # Shapes

    def _read_cat(self, node: fx.Node) -> None:
        sources: Sequence[fx.Node] = node.args[0]  # type: ignore[assignment]
        if any(source not in self._known for source in sources):
            raise ModelError("a concatenation with a constant cannot be compiled")
        known = self._known[sources[0]]
        if any(self._known[source].kind != known.kind for source in sources):
            raise ModelError("a concatenation of signals with sequences cannot be compiled")
        axis = _argument(node, 1, "dim", 0) % len(node.meta["val"].shape)
        if axis != (2 if known.kind == _SEQUENCE else 1):
            raise ModelError(f"a concatenation along axis {axis} of {known.kind}s cannot be compiled")
        self._add(node, Concat, *sources)

    def _read_flatten(self, node: fx.Node) -> None:
        self._reshape(node)

    def _read_view(self, node: fx.Node) -> None:
        self._reshape(node)

    _read_reshape = _read__unsafe_view = _read_unflatten = _read_view

    def _reshape(self, node: fx.Node) -> None:
        """Numbers stay in order, so only the names of the axes change; steps of a sequence cannot be mixed so."""
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        known, shape = self._known[source], tuple(node.meta["val"].shape)
        if shape == tuple(source.meta["val"].shape):
            self._known[node] = known
            return
        if known.kind == _SEQUENCE or shape[0] != 1 or len(shape) not in _KINDS:
            raise ModelError(f"a reshape of {known.kind} {known.shape} to {shape} cannot be compiled")
        self._add(node, View, source, kind=_KINDS[len(shape)])

    def _read_unsqueeze(self, node: fx.Node) -> None:
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        if self._known[source].kind != _SIGNAL or node.args[1] not in (2, -2):
            raise ModelError("an unsqueeze is compiled only where it makes a signal an image of one row")
        self._known[node] = _Known(self._known[source].name, _IMAGE, self._known[source].shape)

    def _read_squeeze(self, node: fx.Node) -> None:
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        known = self._known[source]
        shape = _shape(node)
        kind = known.kind if shape == _shape(source) else _KINDS.get(len(shape), "")
        if not kind or _image(shape[1:], kind) != known.shape:
            raise ModelError(f"a squeeze of {known.kind} {known.shape} cannot be compiled")
        self._known[node] = _Known(known.name, kind, known.shape)

    def _read_transpose(self, node: fx.Node) -> None:
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        known = self._known[source]
        other = {_SIGNAL: _SEQUENCE, _SEQUENCE: _SIGNAL}.get(known.kind)
        if other is None or sorted(axis % 3 for axis in node.args[1:3]) != [1, 2]:  # type: ignore[operator]
            raise ModelError(f"a transpose of {known.kind} {known.shape} cannot be compiled")
        self._known[node] = _Known(known.name, other, known.shape)

    def _read_select(self, node: fx.Node) -> None:
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        known = self._known[source]
        axis, step = _argument(node, 1, "dim"), _argument(node, 2, "index")
        if (known.kind, axis % 3) not in ((_SEQUENCE, 1), (_SIGNAL, 2)):
            raise ModelError(f"taking index {step} of axis {axis} of {known.kind} {known.shape} cannot be compiled")
        self._add(node, Step, source, kind=_VECTOR, step=step % known.shape[2])

    def _read_slice(self, node: fx.Node) -> None:
        """Of an image rows and columns, of any tensor everything."""
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        known = self._known[source]
        axis, start = _argument(node, 1, "dim", 0), _argument(node, 2, "start", 0) or 0
        start += _shape(source)[axis] if start < 0 else 0
        if node.meta["val"].shape == source.meta["val"].shape:
            self._known[node] = known
            return
        if known.kind != _IMAGE or axis not in (2, 3):
            raise ModelError(f"a slice along axis {axis} of {known.kind} {known.shape} cannot be compiled")
        gap = _argument(node, 4, "step", 1)
        stride = (gap, 1) if axis == 2 else (1, gap)
        offset = (start, 0) if axis == 2 else (0, start)
        self._add(node, Place, source, sources=tuple(range(known.shape[0])), stride=stride, offset=offset)

    def _read_pad(self, node: fx.Node) -> None:
        """Zeros around images and before or after channels."""
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        known = self._known[source]
        widths: list[int] = [*_argument(node, 1, "pad"), *[0] * 6]
        mode, value = _argument(node, 2, "mode", "constant"), _argument(node, 3, "value", 0)
        if known.kind != _IMAGE or mode not in ("constant", 0, 0.0) or value or min(widths) < 0 or any(widths[6:]):
            raise ModelError("a padding is compiled for images and zeros only")
        left, _, top, _, before, after = widths[:6]
        sources = (*[-1] * before, *range(known.shape[0]), *[-1] * after)
        self._add(node, Place, source, sources=sources, offset=(-top, -left))

    _read_constant_pad_nd = _read_pad

    def _read_index_select(self, node: fx.Node) -> None:
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        if _argument(node, 1, "dim") != 1 or self._known[source].kind == _SEQUENCE:
            raise ModelError("an index_select is compiled along channels only")
        index = self._given(_argument(node, 2, "index"))
        self._add(node, Place, source, sources=tuple(index.tolist()))


def _kind_of_input(node: fx.Node, axes: int) -> str:
    if axes != 2:
        return {1: _VECTOR, 3: _IMAGE}[axes] if axes in (1, 3) else _unknown(axes)
    return _SIGNAL if _readers(node) & _OF_SIGNALS else _SEQUENCE


def _readers(node: fx.Node) -> set[str]:
    """Operators that read a tensor, or what functions of each of its numbers make of it."""
    found = {_aten_name(reader) for reader in node.users}
    passing = [reader for reader in node.users if _aten_name(reader) in (*_NOTHING, *_ACTIVATIONS)]
    return found.union(*(_readers(reader) for reader in passing))


def _unknown(axes: int) -> str:
    raise ModelError(f"inputs of {axes} axes beside the batch cannot be compiled, expected 1, 2 or 3")


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Of the tensor that an operator gives, or of the first of them, with the batch axis."""
    value = node.meta["val"]
    return tuple((value if isinstance(value, Tensor) else value[0]).shape)


def _image(shape: tuple[int, ...], kind: str) -> Shape:
    """A shape without the batch axis as (channels, height, width)."""
    if kind == _IMAGE:
        return shape[0], shape[1], shape[2]
    if kind == _SIGNAL:
        return shape[0], 1, shape[1]
    if kind == _SEQUENCE:
        return shape[1], 1, shape[0]
    return math.prod(shape), 1, 1


def _pair(value: Any, _: int) -> Pair:
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


def _one_row(value: Any, other: int) -> Pair:
    """Height and width of what is done to a signal: nothing over its one row."""
    return other, _pair(value, other)[1]


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _aten_name(node: fx.Node) -> str:
    """The operator's name without its namespace and overload, such as "conv2d" for aten.conv2d.default."""
    name = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(name, "__name__", name)).rstrip("_").split(".")[-1]


def _compiled() -> list[str]:
    own = [name.removeprefix("_read_") for name in dir(_Reader) if name.startswith("_read_")]
    return sorted({*own, *_ACTIVATIONS} - {name for name in own if name.startswith("_")})
