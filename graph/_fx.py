"""The torch.fx front end."""

import operator as python_operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from .describe import SPLITS, call_spec, module_specs, same_padding
from .graph import INPUT, Graph, Operator
from .layers import SelfDescribing
from .opspec import OpSpec, Shape


class _LeafTracer(fx.Tracer):
    """Keeps layers that describe themselves whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SelfDescribing) or super().is_leaf_module(m, module_qualified_name)


class _ShapeRecorder(fx.Interpreter):
    """Runs the traced network once and keeps the shape of every tensor."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        # A recurrent layer returns its outputs together with its last state.
        n.meta["has_state"] = n.op == "call_module" and isinstance(result, tuple)
        outputs = result[0] if n.meta["has_state"] else result
        if isinstance(outputs, Tensor):
            n.meta["shape"] = tuple(outputs.shape)
        return result


def trace_with_fx(model: nn.Module, example_input: Tensor) -> Graph:
    """Trace `model` symbolically; data-dependent control flow raises what torch.fx raises."""
    traced = fx.GraphModule(model, _LeafTracer().trace(model))
    with torch.no_grad():
        _ShapeRecorder(traced).run(example_input)
    return _FxReader(model).read(traced.graph, tuple(example_input.shape[1:]))


class _FxReader:
    """Turns fx nodes into operators."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names: dict[fx.Node, str] = {}
        self._operators: list[Operator] = []
        self._output = INPUT

    def read(self, graph: fx.Graph, input_shape: Shape) -> Graph:
        for node in graph.nodes:
            self._read_node(node)
        return Graph(tuple(self._operators), input_shape, self._output, "torch.fx")

    def _read_node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._names[node] = INPUT
        elif node.op == "output":
            self._output = self._names[node.args[0]]  # type: ignore[index]  # checked: the output is one tensor
        elif (node.op in ("call_function", "call_method") and _call_name(node) in SPLITS) or self._takes_outputs(node):
            self._pass_through(node)
        elif node.op != "get_attr" and "shape" in node.meta:
            self._names[node] = node.name
            self._operators.append(self._operator(node))

    def _takes_outputs(self, node: fx.Node) -> bool:
        """Whether the node takes the outputs out of what a recurrent layer returns."""
        if node.target is not python_operator.getitem or node.args[1] != 0:
            return False
        return bool(node.all_input_nodes[0].meta.get("has_state"))

    def _pass_through(self, node: fx.Node) -> None:
        """Who reads the node reads its source: the parts of a split are taken out by operators that follow."""
        source = node.all_input_nodes[0]
        self._names[node], node.meta["shape"] = self._names[source], source.meta["shape"]

    def _operator(self, node: fx.Node) -> Operator:
        sources = [source for source in node.all_input_nodes if source in self._names]
        module = str(node.target) if node.op == "call_module" else ""
        return Operator(node.name, module, self._specs(node, sources), tuple(self._names[source] for source in sources))

    def _specs(self, node: fx.Node, sources: list[fx.Node]) -> tuple[OpSpec, ...]:
        shapes = [_shape(source) for source in sources]
        if node.op == "call_module":
            return module_specs(self._model.get_submodule(str(node.target)), shapes[0], _shape(node))
        if (weighted := self._weighted_call(node, shapes)) is not None:
            return (weighted,)
        pool = {"kernel": _argument(node, 1, "kernel_size"), "stride": _argument(node, 2, "stride")}
        pool["padding"] = _argument(node, 3, "padding")
        return (call_spec(_call_name(node), shapes, _shape(node), pool if "pool2d" in _call_name(node) else None),)

    def _weighted_call(self, node: fx.Node, shapes: list[Shape]) -> OpSpec | None:
        """A convolution or linear map called as a function on a parameter."""
        name = _call_name(node)
        if name not in ("conv2d", "linear"):
            return None
        weight, bias = _argument(node, 1, "weight"), _argument(node, 2, "bias")
        if not isinstance(weight, fx.Node) or "shape" not in weight.meta:
            return None
        spec = OpSpec(name, shapes[0], _shape(node), bias=bias is not None)
        return spec if name == "linear" else spec.replace(**_conv_geometry(node, weight.meta["shape"]))


def _conv_geometry(node: fx.Node, weight_shape: Shape) -> dict[str, Any]:
    def pair(position: int, name: str, default: int) -> tuple[int, int]:
        value = _argument(node, position, name)
        value = default if value is None or isinstance(value, str) else value
        return (value, value) if isinstance(value, int) else (value[0], value[-1])

    kernel, dilation = (weight_shape[2], weight_shape[3]), pair(5, "dilation", 1)
    is_same = _argument(node, 4, "padding") == "same"
    return {
        "kernel": kernel,
        "stride": pair(3, "stride", 1),
        "padding": same_padding(kernel, dilation) if is_same else pair(4, "padding", 0),
        "dilation": dilation,
        "groups": _argument(node, 6, "groups") or 1,
    }


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _shape(node: fx.Node) -> Shape:
    return tuple(node.meta["shape"][1:])


def _call_name(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    if node.target is python_operator.getitem:
        return "getitem"
    return str(getattr(node.target, "__name__", node.target)).strip("_")
